"use strict";
// Charts and sortable tables of a report. Works from the JSON inside the page; reads nothing from elsewhere.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const LIGHT = ["#0072b2", "#c44f00", "#00795a", "#a3348f", "#6a5acd", "#8a6d00", "#b3223f", "#4d5a66"];
  const DARK = ["#56b4e9", "#ff9a4d", "#3fd0a4", "#e28bd0", "#aea2ff", "#e0c04a", "#ff8fa3", "#b4c0cc"];
  const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3]];
  const MAIN = ["step/loss", "step/accuracy", "step/learning_rate"];

  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = value => value == null ? "" : value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)
    ? value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e") : String(+value.toPrecision(4));
  const steps = value => Math.abs(value) >= 1e6 ? +(value / 1e6).toPrecision(4) + "M"
    : Math.abs(value) >= 1e3 ? +(value / 1e3).toPrecision(4) + "k" : String(value);

  // Where a logarithmic axis has labels: at 1, 2 and 5 of each decade, at each, or at every so many, about six in all.
  const decades = (_, __, min, max) => {
    const low = Math.floor(Math.log10(min)), high = Math.ceil(Math.log10(max));
    const every = Math.max(1, Math.ceil((high - low) / 6));
    const found = [];
    for (let power = low; power <= high; power++) {
      if (power % every) continue;
      for (const digit of high - low <= 2 ? [1, 2, 5] : [1]) found.push(+`${digit}e${power}`);
    }
    return found.filter(value => value >= min * 0.999 && value <= max * 1.001);
  };

  // Beyond the palette, hues go round by the golden angle; seeds of a setting share its colour and differ in dashes.
  const colour = setting => {
    const palette = dark.matches ? DARK : LIGHT;
    if (setting < palette.length) return palette[setting];
    return `hsl(${(setting * 137.508) % 360} 65% ${dark.matches ? 68 : 38}%)`;
  };

  function curvesOf(root) {
    const data = JSON.parse(document.getElementById(root.dataset.from).textContent);
    const visible = data.lanes.map(() => true);
    const seen = {};
    const dashes = data.lanes.map(lane => DASHES[(seen[lane.setting] = (seen[lane.setting] ?? -1) + 1) % DASHES.length]);
    const sync = uPlot.sync(root.dataset.from);
    let shown = data.charts.filter(chart => MAIN.includes(chart.key));
    const others = data.charts.filter(chart => !MAIN.includes(chart.key));
    if (others.length) shown.push(others.find(chart => /test.*accuracy/.test(chart.key)) || others[0]);
    const slots = [];
    const table = root.querySelector(".values");

    // The last value of a curve at or before a step.
    const at = (curve, step) => {
      const grid = data.grids[curve.x];
      let low = 0, high = grid.length - 1, found = -1;
      while (low <= high) {
        const middle = (low + high) >> 1;
        if (grid[middle] <= step) { found = middle; low = middle + 1; } else high = middle - 1;
      }
      while (found >= 0 && curve.y[found] == null) found--;
      return found < 0 ? null : curve.y[found];
    };

    const tabulate = step => {
      table.querySelector("caption").textContent = step == null
        ? "Last values; point at a curve for those at a step" : `Values at or near step ${step}`;
      for (const row of table.tBodies[0].rows) {
        const lane = +row.dataset.lane;
        slots.forEach((slot, place) => {
          const curve = slot.chart.curves.find(one => one.lane === lane);
          row.cells[place + 1].textContent = curve ? short(at(curve, step == null ? Infinity : step)) : "";
        });
      }
    };

    const draw = slot => {
      const keep = slot.plot && slot.drawn === slot.chart ? { ...slot.plot.scales.x } : null;
      if (slot.plot) { sync.unsub(slot.plot); slot.plot.destroy(); }
      slot.drawn = slot.chart;
      const curves = slot.chart.curves;
      const positive = values => values.map(value => value > 0 ? value : null);
      const joined = uPlot.join(curves.map(one => [data.grids[one.x], slot.log ? positive(one.y) : one.y]));
      const axis = { stroke: css("--quiet"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 } };
      const size = (plot, values) => Math.max(44, 14 + 7 * Math.max(0, ...(values || []).map(text => (text || "").length)));
      slot.plot = new uPlot({
        width: Math.max(200, slot.place.clientWidth), height: root.clientWidth < 600 ? 220 : 260,
        legend: { show: false },
        cursor: { sync: { key: root.dataset.from, setSeries: false }, drag: { x: true, y: false }, points: { size: 6 } },
        scales: { x: { time: false, ...(keep && keep.min != null ? {} : {}) }, y: slot.log ? { distr: 3 } : {} },
        series: [{}, ...curves.map(one => ({
          label: data.lanes[one.lane].name, show: visible[one.lane], spanGaps: true, width: 1.4,
          stroke: colour(data.lanes[one.lane].setting), dash: dashes[one.lane],
          points: { show: data.grids[one.x].length < 30, size: 5 },
        }))],
        axes: [
          { ...axis, values: (_, splits) => splits.map(steps), size: 32 },
          { ...axis, values: (_, splits) => splits.map(value => value == null ? "" : short(value)), size, ...(slot.log ? { splits: decades, filter: (_, splits) => splits } : {}) },
        ],
        hooks: {
          setCursor: [plot => {
            const { idx, left } = plot.cursor;
            if (plot === slot.plot) tabulate(left >= 0 && idx != null ? plot.data[0][idx] : null);
          }],
          // A zoom of one chart is a zoom of all.
          setScale: [(plot, key) => {
            if (key !== "x" || slot.plot !== plot || root.zooming) return;
            root.zooming = true;
            const { min, max } = plot.scales.x;
            for (const other of slots) if (other.plot && other !== slot) other.plot.setScale("x", { min, max });
            root.zooming = false;
            root.dataset.zoom = `${min} ${max}`;
          }],
        },
      }, joined.length ? joined : [[]], slot.place);
      sync.sub(slot.plot);
      if (keep && keep.min != null) slot.plot.setScale("x", { min: keep.min, max: keep.max });
    };

    const wide = chart => {
      const values = chart.curves.flatMap(one => one.y).filter(value => value != null);
      const low = Math.min(...values.slice(0, 50000)), high = Math.max(...values.slice(0, 50000));
      return low > 0 && high > 100 * low;
    };

    const span = () => [Math.min(...data.grids.map(grid => grid[0])), Math.max(...data.grids.map(grid => grid[grid.length - 1]))];
    const reset = () => { const [min, max] = span(); slots[0].plot.setScale("x", { min, max }); };

    const heads = table.tHead.rows[0];
    for (const chart of shown) {
      const slot = { chart, log: wide(chart) };
      slots.push(slot);
      const log = make("button", { type: "button", "aria-pressed": slot.log, class: "log" }, "log");
      const head = make("th", { scope: "col" }, chart.title);
      let title = make("h3", {}, chart.title);
      if (others.includes(chart) && others.length > 1) {
        title = make("select", { "aria-label": "Measurement" }, ...others.map(one => make("option", {}, one.title)));
        title.selectedIndex = others.indexOf(chart);
        title.addEventListener("change", () => {
          slot.chart = others[title.selectedIndex];
          slot.log = wide(slot.chart);
          log.setAttribute("aria-pressed", slot.log);
          head.textContent = slot.chart.title;
          const { min, max } = slots[0].plot.scales.x;
          draw(slot);
          slot.plot.setScale("x", { min, max });
          tabulate(null);
        });
      }
      slot.place = make("div", { class: "plot" });
      root.querySelector(".charts").append(make("div", { class: "chart", "data-key": chart.key }, make("div", { class: "bar" }, title, log), slot.place));
      log.addEventListener("click", () => {
        slot.log = !slot.log;
        log.setAttribute("aria-pressed", slot.log);
        draw(slot);
      });
      heads.append(head);
    }

    const boxes = data.lanes.map((lane, index) => {
      const box = make("input", { type: "checkbox" });
      box.checked = true;
      box.addEventListener("change", () => show(index, box.checked));
      const swatch = make("i", { class: "swatch" });
      const row = make("tr", { "data-lane": index }, make("th", { scope: "row" }, make("label", {}, box, swatch, lane.name)), ...slots.map(() => make("td")));
      table.tBodies[0].append(row);
      return { box, swatch };
    });
    const paint = () => boxes.forEach((one, index) => {
      const [on, off] = dashes[index].length ? [4, 2] : [4, 0];
      one.swatch.style.background = `repeating-linear-gradient(90deg, ${colour(data.lanes[index].setting)} 0 ${on}px, transparent ${on}px ${on + off}px)`;
    });
    const show = (index, on) => {
      visible[index] = on;
      boxes[index].box.checked = on;
      for (const slot of slots) {
        const place = slot.chart.curves.findIndex(one => one.lane === index);
        if (place >= 0) slot.plot.setSeries(place + 1, { show: on });
      }
    };
    root.querySelector(".reset").addEventListener("click", reset);
    root.querySelector(".all").addEventListener("click", () => boxes.forEach((_, index) => show(index, true)));
    root.querySelector(".none").addEventListener("click", () => boxes.forEach((_, index) => show(index, false)));

    root.zooming = true;
    slots.forEach(draw);
    root.zooming = false;
    reset();
    paint();
    tabulate(null);
    let width = root.clientWidth;
    new ResizeObserver(() => {
      if (root.clientWidth === width) return;
      width = root.clientWidth;
      for (const slot of slots) slot.plot.setSize({ width: Math.max(200, slot.place.clientWidth), height: width < 600 ? 220 : 260 });
    }).observe(root);
    dark.addEventListener("change", () => { slots.forEach(draw); paint(); });
    root.dataset.ready = "yes";
  }

  // Numbers by size, words by the alphabet, empty cells last either way.
  function sortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const compare = (one, other) => {
          const [a, b] = [key(one), key(other)];
          if (a === "" || b === "") return (a === "") - (b === "");
          const order = isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b;
          return up ? order : -order;
        };
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
      });
    });
  }

  document.querySelectorAll("table.sortable").forEach(sortable);
  document.querySelectorAll("[data-from]").forEach(curvesOf);
})();
