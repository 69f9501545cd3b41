// SPDX-License-Identifier: Apache-2.0
// The interactive view of a report: one time moves videos, cursor, values and the fan of predictions.
// Data are those of `wam.evaluation.replay.player_page`; times are milliseconds there and seconds here.
(() => {
  "use strict";
  const root = document.currentScript.closest(".player");
  const find = name => root.querySelector(".player-" + name);
  const MARGIN = {l: 62, r: 10};
  const TOP = 8, ROW = 18, GAP = 30, NEIGHBOURS = 2, FRAME_MS = 50, DRIFT = 0.2;
  const FAN = "#c026d3", FAN_NAME = "chunk in force";
  const touch = matchMedia("(pointer: coarse)").matches;
  let data, kinds, plot, videos, end, chosen, hidden = new Set(), time = 0, playing = false, drawing = false, drawn = 0, marked = 0;

  // ---- start: when the view comes near, or when the address names a time

  const hash = () => {
    const match = /[#&]t=(-?[\d.]+)/.exec(location.hash);
    return match ? Number(match[1]) : null;
  };
  let starting = null;
  const start = () => starting ??= load().catch(error => { find("note").textContent = "The view could not start: " + error; });

  async function load() {
    if (!("DecompressionStream" in window)) {
      find("note").textContent = "This view needs a browser of 2023 or later (DecompressionStream).";
      return;
    }
    find("note").textContent = "The view is being unpacked …";
    const packed = new Blob([bytes(find("library"))]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(packed).text();
    document.head.append(script);
    data = JSON.parse(find("data").textContent);
    end = data.end / 1000;
    kinds = data.kinds.filter(kind => data.events.some(event => event.k === kind.kind));
    videos = [...root.querySelectorAll("video")];
    const films = [...root.querySelectorAll(".player-film")];
    // A blob and no data URI: not every browser seeks in the latter.
    videos.forEach((video, i) => {
      video.src = URL.createObjectURL(new Blob([bytes(films[i])], {type: "video/mp4"}));
      video.onseeked = () => seek(video);
      video.onclick = toggle;
    });
    chosen = data.shown.slice(0, innerWidth < 600 ? 3 : 4);
    find("note").hidden = true;
    find("body").hidden = false;
    find("hover").hidden = touch;
    find("time").max = end;
    controls();
    build();
    setTime(hash() ?? 0);
  }

  const bytes = element => Uint8Array.from(atob(element.textContent.trim()), c => c.charCodeAt(0));

  // ---- the time

  function setTime(seconds) {
    time = Math.min(Math.max(seconds, 0), end);
    if (!drawing) {
      drawing = true;
      requestAnimationFrame(draw);
    }
  }

  function draw() {
    drawing = false;
    find("time").value = time;
    find("clock").textContent = `${time.toFixed(2)} s of ${end.toFixed(1)} s`;
    if (!playing) videos.forEach(seek);
    ages();
    const now = performance.now();
    if (playing && now - drawn < FRAME_MS) return;
    drawn = now;
    tell();
    read();
    Plotly.relayout(plot, {shapes: shapes(), ...windowed()});
    root.dataset.time = time.toFixed(3);
  }

  function seek(video) {
    // One jump at a time: the next one is made when this one has arrived.
    const wanted = Math.min(time + 0.001, end);
    if (!playing && !video.seeking && Math.abs(video.currentTime - wanted) > 0.005) video.currentTime = wanted;
  }

  function toggle() {
    playing = !playing;
    find("play").textContent = playing ? "❚❚" : "▶";
    if (!playing) {
      videos.forEach(video => video.pause());
      setTime(time);
      return;
    }
    if (time > end - 0.05) time = 0;
    const speed = Number(find("speed").value);
    videos.forEach(video => { video.currentTime = time; video.playbackRate = speed; video.play().catch(() => {}); });
    let last = performance.now();
    const step = now => {
      if (!playing) return;
      const clock = videos[0];
      const moving = clock && !clock.paused && !clock.seeking;
      setTime(moving ? clock.currentTime : time + (clock ? 0 : (now - last) / 1000 * speed));
      last = now;
      videos.slice(1).forEach(video => {
        if (!video.seeking && Math.abs(video.currentTime - time) > DRIFT) video.currentTime = time;
      });
      if (time >= end - 0.02 || clock?.ended) toggle();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  // ---- what is known at a time

  function last(sorted, value, key = x => x) {
    let low = 0, high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (key(sorted[middle]) <= value) low = middle + 1; else high = middle;
    }
    return low - 1;
  }

  const inForce = () => last(data.chunks, time * 1000, chunk => chunk.r);

  function ages() {
    root.querySelectorAll(".player-age").forEach(label => {
      const images = data.films[Number(label.dataset.film)].images;
      const i = last(images, time * 1000 + 1);
      label.textContent = i < 0 ? "" : ` · image of ${(images[i] / 1000).toFixed(2)} s`;
    });
  }

  function tell() {
    const i = inForce(), chunk = data.chunks[i];
    const rung = data.rungs[last(data.rungs, time * 1000, one => one.t)];
    const parts = [];
    if (chunk) {
      const gone = time * 1000 > chunk.s + data.offsets[chunk.o].at(-1);
      parts.push(`Chunk ${chunk.n}${gone ? " (its rows have ended)" : ""}: of the image at ${(chunk.s / 1000).toFixed(2)} s, ` +
        `out at ${(chunk.r / 1000).toFixed(2)} s, its context ${(chunk.a / 1000).toFixed(2)} s old`);
    } else parts.push("No chunk yet");
    if (rung) parts.push(`safety node: ${rung.name}`);
    find("now").textContent = parts.join(" · ");
    const until = last(data.events, time * 1000 + 1, event => event.t);
    // Of every kind the latest: a refusal that repeats itself must not hide why the arm was stopped.
    const latest = new Map(data.events.slice(0, until + 1).filter(event => event.k !== "context").map(event => [event.k, event]));
    const shown = [...latest.values()].sort((a, b) => b.t - a.t).slice(0, 4);
    find("marks").replaceChildren(...shown.map(event => {
      const item = document.createElement("li"), button = document.createElement("button"), dot = document.createElement("i");
      dot.style.background = data.kinds.find(kind => kind.kind === event.k).color;
      button.type = "button";
      button.append(dot, `${(event.t / 1000).toFixed(2)} s  ${event.x}`);
      button.onclick = () => jump(event.t / 1000);
      item.append(button);
      return item;
    }));
  }

  // ---- the drawing: events on top, a plot for every chosen joint, one x axis

  const value = (joint, number) => number === null || number === undefined ? null : number * joint.step;

  function points(line, j) {
    const t = line.at ? line.at[j] : line.t;
    return {x: t.map(ms => ms / 1000), y: line.v[j].map(number => value(data.joints[j], number))};
  }

  function span(j) {
    let low = Infinity, high = -Infinity;
    const see = number => { if (number !== null) { low = Math.min(low, number); high = Math.max(high, number); } };
    data.lines.forEach(line => line.v[j].forEach(see));
    const n = data.joints.length;
    data.chunks.forEach(chunk => { for (let k = j; k < chunk.v.length; k += n) see(chunk.v[k]); });
    if (low > high) [low, high] = [-1, 1];
    const pad = Math.max(0.06 * (high - low), 5);
    return [value(data.joints[j], low - pad), value(data.joints[j], high + pad)];
  }

  const tall = () => chosen.length > 8 ? 84 : 118;
  const eventsHeight = () => ROW * (kinds.length + (data.rungs.length ? 1 : 0)) + 6;

  function build() {
    const rows = kinds, bottom = 36, events = eventsHeight();
    const body = events + chosen.length * (tall() + GAP), height = TOP + body + bottom;
    const traces = [], layout = {
      height, margin: {...MARGIN, t: TOP, b: bottom}, paper_bgcolor: "#fff", plot_bgcolor: "#f8fafc",
      font: {size: 11, color: "#475569", family: "system-ui, sans-serif"}, hovermode: "closest", dragmode: touch ? false : "zoom",
      showlegend: false,
      xaxis: {range: [0, end], anchor: chosen.length ? "y" + (chosen.length + 1) : "y", title: {text: "time [s]", standoff: 4}, gridcolor: "#e2e8f0",
        zeroline: false, nticks: innerWidth < 600 ? 5 : 12},
      yaxis: {domain: [1 - events / body, 1], range: [events / ROW - 0.5, -0.5], fixedrange: true, zeroline: false, showgrid: false,
        tickvals: [...rows.keys(), rows.length], ticktext: [...rows.map(row => row.label), "safety node"], tickfont: {size: 9}},
    };
    rows.forEach((row, y) => {
      const at = data.events.filter(event => event.k === row.kind);
      traces.push({x: at.map(event => event.t / 1000), y: at.map(() => y), text: at.map(event => wrap(event.x)), mode: "markers",
        marker: {color: row.color, size: row.kind === "context" ? 7 : 9, symbol: row.kind === "context" ? "line-ns-open" : "circle"},
        hovertemplate: "%{x:.2f} s: %{text}<extra></extra>"});
    });
    data.rungs.forEach((rung, i) => {
      const until = data.rungs[i + 1]?.t ?? data.end;
      traces.push({x: [rung.t / 1000, until / 1000], y: [rows.length, rows.length], mode: "lines", line: {color: data.colors[rung.name], width: 9},
        hovertemplate: `${rung.name} from %{x:.2f} s<extra></extra>`});
    });
    chosen.forEach((j, row) => {
      const axis = "y" + (row + 2), high = 1 - (events + row * (tall() + GAP) + GAP) / body;
      layout["yaxis" + (row + 2)] = {domain: [high - tall() / body, high], range: span(j), gridcolor: "#e2e8f0", zeroline: false, nticks: 4,
        anchor: "x"};
      data.lines.filter(line => !hidden.has(line.name)).forEach(line => traces.push({...points(line, j), yaxis: axis, mode: "lines",
        name: line.name, hoverinfo: "none", line: {color: line.color, width: line.width}}));
      // A plot without lines keeps its axis.
      traces.push({x: [0], y: [null], yaxis: axis, mode: "lines", hoverinfo: "none"});
    });
    layout.shapes = shapes();
    plot = find("plot");
    name();
    const made = Boolean(plot.data);
    Plotly[made ? "react" : "newPlot"](plot, traces, layout, {displayModeBar: false, responsive: true, doubleClick: "reset"});
    if (made) return;
    plot.on("plotly_click", event => {
      const hit = event.points.find(point => !point.data.yaxis || point.data.yaxis === "y");
      if (hit) { marked = performance.now(); jump(hit.x); }
    });
    plot.on("plotly_doubleclick", () => { find("window").value = "0"; });
    plot.addEventListener("mousemove", event => {
      if (touch || playing || event.buttons || !find("hover").querySelector("input").checked) return;
      const at = timeAt(event);
      if (at !== null) setTime(at);
    });
    plot.addEventListener("click", event => {
      const at = timeAt(event);
      if (at !== null && performance.now() - marked > 80) jump(at);
    });
  }

  function timeAt(event) {
    const box = plot.getBoundingClientRect(), share = (event.clientX - box.left - MARGIN.l) / (box.width - MARGIN.l - MARGIN.r);
    if (!(share >= 0 && share <= 1)) return null;
    const [low, high] = plot.layout.xaxis.range;
    return low + share * (high - low);
  }

  // A jump stays: the pointer no longer moves the time until the box is ticked again.
  function jump(seconds) {
    find("hover").querySelector("input").checked = false;
    if (playing) toggle();
    setTime(seconds);
  }

  function windowed() {
    const width = Number(find("window").value);
    if (!width || width >= end) return {};
    const [low, high] = plot.layout.xaxis.range;
    if (Math.abs(high - low - width) < 1e-6 && time >= low + 0.05 * width && time <= high - 0.05 * width) return {};
    const from = Math.min(Math.max(time - width / 2, 0), end - width);
    return {"xaxis.range": [from, from + width]};
  }

  function shapes() {
    const found = [], now = inForce(), n = data.joints.length;
    if (!hidden.has(FAN_NAME)) chosen.forEach((j, row) => {
      for (let i = Math.max(0, now - NEIGHBOURS); i <= Math.min(data.chunks.length - 1, now + NEIGHBOURS); i++) {
        const chunk = data.chunks[i];
        const path = data.offsets[chunk.o].map((offset, k) => [(chunk.s + offset) / 1000, value(data.joints[j], chunk.v[k * n + j])])
          .filter(point => point[1] !== null).map(([x, y], k) => `${k ? "L" : "M"} ${x},${y}`).join(" ");
        if (!path) continue;
        found.push({type: "path", path, xref: "x", yref: "y" + (row + 2), layer: "above", opacity: i === now ? 1 : 0.28,
          line: {color: FAN, width: i === now ? 2.4 : 1.4}, name: `chunk ${chunk.n}`});
      }
    });
    found.sort((a, b) => a.opacity - b.opacity);
    found.push({type: "line", xref: "x", yref: "paper", x0: time, x1: time, y0: 0, y1: 1, line: {color: "#0f172a", width: 1}, name: "cursor"});
    return found;
  }

  // Names and values stand over the drawing: as annotations of plotly every change of time would lay it out anew.
  function name() {
    find("names").replaceChildren(...chosen.map((j, row) => {
      const joint = data.joints[j], line = document.createElement("div"), title = document.createElement("b");
      line.style.top = `${TOP + eventsHeight() + row * (tall() + GAP) + GAP - 19}px`;
      title.textContent = joint.name + (joint.unit === "1" ? "" : ` [${joint.unit}]`);
      line.append(title, ...data.lines.map(one => {
        const number = document.createElement("span");
        number.style.color = one.color;
        return number;
      }));
      return line;
    }));
  }

  function read() {
    chosen.forEach((j, row) => {
      const joint = data.joints[j], numbers = find("names").children[row].querySelectorAll("span");
      data.lines.forEach((line, k) => {
        const i = last(line.at ? line.at[j] : line.t, time * 1000 + 1), at = i < 0 ? null : value(joint, line.v[j][i]);
        numbers[k].textContent = at === null ? "–" : at.toFixed(joint.digits);
      });
    });
  }

  const wrap = text => text.replace(/</g, "&lt;").replace(/(.{1,46})(\s|$)/g, "$1<br>").replace(/<br>$/, "");

  // ---- controls

  function controls() {
    find("play").onclick = toggle;
    find("time").oninput = event => { if (playing) toggle(); setTime(Number(event.target.value)); };
    find("speed").onchange = () => videos.forEach(video => { video.playbackRate = Number(find("speed").value); });
    find("window").onchange = () => {
      if (find("window").value === "0") Plotly.relayout(plot, {"xaxis.range": [0, end]});
      setTime(time);
    };
    const steps = () => data.events.filter(event => event.k !== "context").map(event => event.t / 1000);
    find("before").onclick = () => { const at = steps().filter(t => t < time - 0.005).at(-1); if (at !== undefined) jump(at); };
    find("after").onclick = () => { const at = steps().find(t => t > time + 0.005); if (at !== undefined) jump(at); };
    root.addEventListener("keydown", event => {
      if (event.target.tagName === "SELECT" || event.ctrlKey || event.altKey || event.metaKey) return;
      const step = event.shiftKey ? 1 : 0.1, move = {ArrowLeft: -step, ArrowRight: step}[event.key];
      if (move) { jump(time + move); event.preventDefault(); }
      if (event.key === " " && event.target.tagName !== "BUTTON") { toggle(); event.preventDefault(); }
    });
    const groups = [...new Set(data.joints.map(joint => joint.group))];
    const pick = find("pick"), details = document.createElement("details"), joints = document.createElement("div");
    joints.className = "player-joints";
    details.innerHTML = "<summary></summary>";
    details.append(joints);
    const choose = list => { chosen = list.sort((a, b) => a - b); press(); build(); setTime(time); };
    const button = (text, run) => { const made = document.createElement("button"); made.type = "button"; made.textContent = text; made.onclick = run; return made; };
    const of = group => data.joints.flatMap((joint, j) => joint.group === group ? [j] : []);
    const most = button("moving most", () => choose(data.shown.slice(0, innerWidth < 600 ? 3 : 4)));
    const buttons = [most, ...groups.map(group => button(group, () => choose(of(group))))];
    const single = data.joints.map((joint, j) => button(joint.name, () => choose(chosen.includes(j) ? chosen.filter(k => k !== j) : [...chosen, j])));
    joints.append(...single);
    pick.append(...buttons, details);
    find("legend").append(...[...data.lines, {name: FAN_NAME, color: FAN}].map(line => {
      const made = button("", () => {
        hidden.has(line.name) ? hidden.delete(line.name) : hidden.add(line.name);
        made.style.opacity = hidden.has(line.name) ? 0.4 : 1;
        build();
        setTime(time);
      }), bar = document.createElement("i");
      bar.style.background = line.color;
      made.title = "show or hide";
      made.append(bar, line.name);
      return made;
    }));
    const press = () => {
      const same = list => list.length === chosen.length && list.every(j => chosen.includes(j));
      most.ariaPressed = same(data.shown.slice(0, innerWidth < 600 ? 3 : 4));
      groups.forEach((group, g) => { buttons[g + 1].ariaPressed = same(of(group)); });
      single.forEach((one, j) => { one.ariaPressed = chosen.includes(j); });
      details.firstChild.textContent = `joints (${chosen.length} of ${data.joints.length} shown)`;
    };
    press();
  }

  // ---- when

  const follow = async () => {
    if (hash() === null) return;
    await start();
    if (data) {
      jump(hash());
      root.scrollIntoView({block: "start"});
    }
  };
  addEventListener("hashchange", follow);
  follow();
  new IntersectionObserver((entries, watch) => {
    if (entries.some(entry => entry.isIntersecting)) { watch.disconnect(); start(); }
  }, {rootMargin: "800px"}).observe(root);
})();
