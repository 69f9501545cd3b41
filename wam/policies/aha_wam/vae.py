# SPDX-License-Identifier: Apache-2.0
"""The Wan 2.2 video VAE: diffusers' class for videos, and its exact 2-D form for one frame.

Every convolution of the encoder is causal in time: for a first frame all earlier taps see zeros, the halving
convolutions along time are skipped, and the averaging shortcuts see one frame of zeros. So one frame needs
only the last temporal tap of every 3-D kernel. `FrameEncoder` keeps just those: the same latent with a third
of the arithmetic.

Latents are standardised per channel with the constants of the released VAE.

Shapes: B batch, H, W pixels, h, w latent cells, C latent channels, F frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wam.core.errors import BundleError
from wam.core.extras import missing
from wam.policies.aha_wam.config import VaeConfig

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

# fmt: off
LATENT_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
LATENT_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on

RGB = 3
NORM_EPS = 1e-24
"""Square of the floor under a pixel's norm in the reference."""


class PixelNorm(nn.Module):
    """RMS norm over the channels of every pixel, then SiLU where `activate` is set."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the normalised map; channels-last in and out, so nothing is copied."""
        y = x_BCHW.permute(0, 2, 3, 1)
        y = F.rms_norm(y.float(), self.gamma.shape, self.gamma.float(), NORM_EPS).to(x_BCHW.dtype)
        return y.permute(0, 3, 1, 2)


class FrameResidual(nn.Module):
    """Two normalised 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = PixelNorm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = PixelNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return shortcut(x) + conv(silu(norm(conv(silu(norm(x))))))."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        out: Tensor = y + self.conv_shortcut(x)
        return out


class FrameAttention(nn.Module):
    """Single-head attention over the pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = PixelNorm(channels)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + proj(softmax attention)."""
        qkv = self.to_qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1)
        q, k, v = qkv.chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).unflatten(2, x.shape[2:])
        out: Tensor = x + self.proj(y)
        return out


class FrameStage(nn.Module):
    """One resolution: residual blocks, halving, and an averaging shortcut around both."""

    def __init__(self, inputs: int, outputs: int, *, blocks: int, halve: bool, halve_time: bool) -> None:
        super().__init__()
        self.outputs = outputs
        self.factor = 2 if halve else 1
        self.factor_time = 2 if halve_time else 1
        self.resnets = nn.ModuleList(
            FrameResidual(inputs if i == 0 else outputs, outputs) for i in range(blocks)
        )
        self.downsampler = nn.Conv2d(outputs, outputs, 3, stride=2) if halve else None

    def shortcut(self, x: Tensor) -> Tensor:
        """Average the input down: groups run over (channel, time, row, column), and time 0 is the padding."""
        if self.factor == 1 and self.factor_time == 1 and x.shape[1] == self.outputs:
            return x
        cells = F.pixel_unshuffle(x, self.factor).unflatten(1, (x.shape[1], 1, self.factor**2))
        if self.factor_time == 2:
            cells = torch.cat((torch.zeros_like(cells), cells), dim=2)
        out: Tensor = cells.flatten(1, 3).unflatten(1, (self.outputs, -1)).mean(2)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Return the next resolution."""
        y = x
        for block in self.resnets:
            y = block(y)
        if self.downsampler is not None:
            y = self.downsampler(F.pad(y, (0, 1, 0, 1)))
        return y + self.shortcut(x)


class FrameEncoder(nn.Module):
    """Encoder of one image: pixels in [-1, 1] -> standardised posterior mean.

    Args:
        config: sizes of the VAE that it was made from.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths = [config.base_dim * m for m in (1, *config.dim_mult)]
        last = len(config.dim_mult) - 1
        self.conv_in = nn.Conv2d(RGB * config.patch**2, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            FrameStage(
                widths[i],
                widths[i + 1],
                blocks=config.num_res_blocks,
                halve=i < last,
                halve_time=i < last and config.temporal_downsample[i],
            )
            for i in range(last + 1)
        )
        top = widths[-1]
        self.middle = nn.Sequential(FrameResidual(top, top), FrameAttention(top), FrameResidual(top, top))
        self.norm_out = PixelNorm(top)
        self.conv_out = nn.Conv2d(top, config.z_dim, 3, padding=1)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return the latent [B, C, 1, h, w] of an image [B, 3, H, W] in [-1, 1]."""
        x = F.pixel_unshuffle(image_B3HW, self.patch).to(self.conv_in.weight.dtype)
        x = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        for stage in self.down_blocks:
            x = stage(x)
        x = self.middle(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out.contiguous().unsqueeze(2)


def _frame_name(name: str) -> str:
    """Translate a name of `AutoencoderKLWan.encoder` to `FrameEncoder`."""
    name = name.replace("mid_block.resnets.0", "middle.0").replace("mid_block.attentions.0", "middle.1")
    return name.replace("mid_block.resnets.1", "middle.2").replace("downsampler.resample.1.", "downsampler.")


def collapse(
    state: Mapping[str, Tensor], config: VaeConfig, *, dtype: torch.dtype = torch.float32
) -> FrameEncoder:
    """Make the 2-D encoder from the weights of the 3-D one.

    The posterior's 1x1 `quant_conv`, its choice of the mean and the standardisation are folded into the last
    convolution; the patch order of the first one is folded into its weight.

    Args:
        state: tensors of `AutoencoderKLWan`, its names (the decoder may be absent).
        config: sizes.
        dtype: of the result.

    Raises:
        BundleError: a tensor is missing or has another shape.
    """
    with torch.device("meta"):
        encoder = FrameEncoder(config)
    want = encoder.state_dict()
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith("encoder.") or ".time_conv." in name:
            continue
        value = value.float()
        if value.dim() == 5:
            value = value[:, :, -1]
        if name.endswith(".gamma"):
            value = value.flatten()
        tensors[_frame_name(name.removeprefix("encoder."))] = value
    p = config.patch
    try:
        conv_in = tensors["conv_in.weight"]
        order = conv_in.unflatten(1, (RGB, p, p)).transpose(2, 3).flatten(1, 3)
        tensors["conv_in.weight"] = order.contiguous()
        std = torch.tensor(latent_std(config))
        mix = state["quant_conv.weight"].float()[: config.z_dim, :, 0, 0, 0] / std[:, None]
        offset = state["quant_conv.bias"].float()[: config.z_dim]
        bias = mix @ tensors["conv_out.bias"] + (offset - torch.tensor(latent_mean(config))) / std
        tensors["conv_out.weight"] = torch.einsum("zc,cikl->zikl", mix, tensors["conv_out.weight"])
        tensors["conv_out.bias"] = bias
    except KeyError as error:
        raise BundleError(f"the VAE lacks the tensor {error}") from error
    wrong = [n for n, t in want.items() if n not in tensors or tensors[n].shape != t.shape]
    extra = sorted(set(tensors) - set(want))
    if wrong or extra:
        raise BundleError(
            f"the VAE's encoder does not fit its sizes: {wrong[:6]} missing or misshapen, {extra[:6]} left over",
            where="model.vae in policy.yaml",
        )
    ready = {n: t.to(dtype).contiguous() for n, t in tensors.items()}
    encoder.load_state_dict(ready, strict=True, assign=True)
    return encoder.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload,no-any-return]  # torch annotates no overload with memory_format alone


def latent_mean(config: VaeConfig) -> tuple[float, ...]:
    """Return the per-channel mean that is subtracted from latents."""
    return LATENT_MEAN[: config.z_dim]


def latent_std(config: VaeConfig) -> tuple[float, ...]:
    """Return the per-channel standard deviation that latents are divided by."""
    return LATENT_STD[: config.z_dim]


def autoencoder(config: VaeConfig) -> AutoencoderKLWan:
    """Build diffusers' class for videos, with random weights.

    Raises:
        MissingDependency: diffusers is not installed.
    """
    try:
        from diffusers import AutoencoderKLWan
    except ModuleNotFoundError as error:
        raise missing("videos need diffusers", "diffusers") from error
    return AutoencoderKLWan(
        base_dim=config.base_dim,
        decoder_base_dim=config.decoder_base_dim,
        z_dim=config.z_dim,
        dim_mult=list(config.dim_mult),
        num_res_blocks=config.num_res_blocks,
        temperal_downsample=list(config.temporal_downsample),
        latents_mean=list(latent_mean(config)),
        latents_std=list(latent_std(config)),
        is_residual=True,
        in_channels=RGB * config.patch**2,
        out_channels=RGB * config.patch**2,
        patch_size=config.patch,
        scale_factor_temporal=4,
        scale_factor_spatial=16,
    )


def _channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1, 1)


def encode_video(vae: AutoencoderKLWan, video_B3FHW: Tensor, *, config: VaeConfig) -> Tensor:
    """Return standardised latents [B, C, (F - 1) / 4 + 1, h, w] of a video in [-1, 1]; F % 4 == 1."""
    if video_B3FHW.shape[2] % 4 != 1:
        raise ValueError(f"a video of {video_B3FHW.shape[2]} frames; the VAE takes 4 k + 1")
    mean: Tensor = vae.encode(video_B3FHW).latent_dist.mode()
    return (mean - _channel(latent_mean(config), mean)) / _channel(latent_std(config), mean)


def decode_video(vae: AutoencoderKLWan, z_BCFHW: Tensor, *, config: VaeConfig) -> Tensor:
    """Return the video [B, 3, 4 (F - 1) + 1, H, W] in [-1, 1] of standardised latents."""
    raw = z_BCFHW * _channel(latent_std(config), z_BCFHW) + _channel(latent_mean(config), z_BCFHW)
    out: Tensor = vae.decode(raw).sample
    return out
