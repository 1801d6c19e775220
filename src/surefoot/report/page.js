"use strict";
for (const figure of document.querySelectorAll("figure")) {
  const plot = figure.querySelector(".plot"), at = figure.querySelector(".at");
  const data = JSON.parse(figure.querySelector("script").textContent);
  const outputs = [...figure.querySelectorAll("output")], before = outputs.map(o => o.textContent);
  const cursor = document.createElement("i");
  cursor.className = "cursor";
  let here = -1, row = 0;

  const text = v => {
    if (v === null || v === undefined) return "none";
    if (v && (Math.abs(v) < 1e-2 || Math.abs(v) >= 1e6)) return v.toExponential(2).replace(/\.?0+e/, "e").replace("+", "");
    return Math.abs(v) >= 1e3 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(4)));
  };
  const place = ([low, high, log], v) => {
    const share = log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low);
    return Math.min(Math.max(share, 0), 1);
  };
  const value = ([low, high, log], share) => log ? low * (high / low) ** share : low + share * (high - low);
  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (xs[middle] < x) low = middle; else high = middle; }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  };
  const spot = (left, top, style) => {
    const dot = document.createElement("i");
    dot.className = "spot " + style;
    dot.style.left = 100 * left + "%";
    dot.style.top = 100 * top + "%";
    plot.append(dot);
  };
  const clear = () => {
    cursor.remove();
    plot.querySelectorAll(".spot").forEach(dot => dot.remove());
    at.textContent = "";
    outputs.forEach((output, i) => { output.textContent = before[i]; });
    here = -1;
  };

  // The line with the most points says where the cursor can be; all others are read at their nearest point.
  const main = data.lines ? data.lines.reduce((a, b) => b.x.length > a.x.length ? b : a).x : data.cells[0];
  const styles = [...figure.querySelectorAll(".legend .key path:first-child")].map(p => p.getAttribute("class"));
  const show = i => {
    clear();
    here = Math.min(Math.max(i, 0), main.length - 1);
    plot.append(cursor);
    if (data.cells) {
      const left = (here + 0.5) / main.length;
      cursor.style.left = 100 * left + "%";
      spot(left, (row + 0.5) / data.cells.length, "c5");
      at.textContent = data.unit + " " + text(Math.round(value(data.x, left)));
      outputs[0].textContent = data.names[row] + " " + text(data.cells[row][here]);
      return;
    }
    const x = main[here];
    cursor.style.left = 100 * place(data.x, x) + "%";
    const epoch = data.epochs.filter(pair => pair[0] <= x).pop();
    at.textContent = data.unit + " " + text(x) + (epoch ? ", epoch " + epoch[1] : "");
    data.lines.forEach((line, k) => {
      const j = nearest(line.x, x), y = x > line.x.at(-1) && !line.holds ? null : line.y[j];
      outputs[k].textContent = text(y);
      if (y !== null && !(data.y[2] && y <= 0)) spot(place(data.x, line.x[j]), 1 - place(data.y, y), styles[k]);
    });
  };

  const point = event => {
    const box = plot.getBoundingClientRect(), share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    if (data.cells) {
      row = Math.min(Math.max(Math.floor((event.clientY - box.top) / box.height * data.cells.length), 0), data.cells.length - 1);
      show(Math.floor(share * main.length));
    } else show(nearest(main, value(data.x, share)));
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") clear(); });
  plot.addEventListener("blur", clear);
  plot.addEventListener("keydown", event => {
    const far = event.shiftKey ? Math.ceil(main.length / 20) : 1, end = main.length - 1;
    const moves = { ArrowLeft: here < 0 ? end : here - far, ArrowRight: here < 0 ? 0 : here + far, Home: 0, End: end };
    const rows = { ArrowUp: -1, ArrowDown: 1 };
    if (event.key in moves) show(moves[event.key]);
    else if (data.cells && event.key in rows) {
      row = Math.min(Math.max(row + rows[event.key], 0), data.cells.length - 1);
      show(here < 0 ? end : here);
    } else if (event.key === "Escape") clear();
    else return;
    event.preventDefault();
  });
}
