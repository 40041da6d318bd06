// A matrix of what each row draws from each column, columns that are alike side by side; it follows the pointer and the
// keyboard. Of the groups of regions, and of collocations.

// Blue below 1x, orange above, as in analysis/figures.py.
const DIVERGING = [
  [31, 95, 168],
  [127, 176, 218],
  [242, 239, 233],
  [240, 163, 94],
  [180, 80, 10],
]
const FAINT = 2 ** -20 // stands for 0 in a logarithm

// `shares`: [row][column]; `usual`: what 1x is, by column; `rows` and `columns`: `order` and `names`; `label`.
// The tree over the columns: `forks`, its joints; `ends`, where each cluster ends; `cut`, the height that separates them.
//   point(row, column): called with the cell that the pointer or the keyboard visits, or with nulls
//   pin(row): called where it is clicked, or with Enter; with null by Escape
//   node.mark(row, column): marks them from outside, where they are not null
function drawMatrix({ shares, usual, rows, columns, forks, ends = [], cut = Infinity, label }, point, pin) {
  const [M, N] = [rows.order.length, columns.order.length]
  const placesOf = (order) => Object.fromEntries(order.map((one, at) => [one, at]))
  const [rowAt, columnAt] = [placesOf(rows.order), placesOf(columns.order)]
  const logs = rows.order.map((row) =>
    columns.order.map((column) => Math.log2(Math.max(shares[row][column] / usual[column], FAINT))),
  )
  const reach = Math.max(1, Math.ceil(Math.max(...logs.flat())))

  const canvas = make("canvas", { width: N, height: M, "aria-hidden": "true" })
  const pixels = canvas.getContext("2d").createImageData(N, M)
  logs.flat().forEach((log, i) => {
    const t = (DIVERGING.length - 1) * Math.min(1, Math.max(0, 0.5 + log / (2 * reach)))
    const from = Math.min(Math.floor(t), DIVERGING.length - 2)
    const [a, b] = [DIVERGING[from], DIVERGING[from + 1]]
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = a[c] + (t - from) * (b[c] - a[c])
    pixels.data[4 * i + 3] = 255
  })
  canvas.getContext("2d").putImageData(pixels, 0, 0)

  const top = Math.max(1e-6, ...forks.flat().map(([, height]) => height))
  const stretched = { preserveAspectRatio: "none", "aria-hidden": "true" }
  const tree = vector("svg", { class: "tree", viewBox: `-0.5 0 ${N} ${top}`, ...stretched })
  for (const joint of forks)
    tree.append(vector("path", { d: `M${joint.map(([x, y]) => `${x} ${top - y}`).join("L")}` }))
  if (cut < top) tree.append(vector("line", { x1: -0.5, x2: N - 0.5, y1: top - cut, y2: top - cut }))

  const marks = [vector("rect", { class: "column" }), vector("rect", { class: "row" })]
  const over = vector("svg", { viewBox: `0 0 ${N} ${M}`, ...stretched })
  ends.forEach((end, i) => {
    const first = ends[i - 1] ?? 0
    over.append(vector("rect", { x: first, y: first, width: end - first, height: end - first }))
  })
  over.append(...marks)
  const cells = make(
    "div",
    {
      class: "cells",
      tabindex: 0,
      role: "application",
      "aria-label": `${label}: arrow keys move, Enter pins the row, Escape clears.`,
      style: `height: ${15 * M}px`,
      pointermove: (event) => visit(...under(event)),
      pointerleave: () => leave(),
      blur: () => leave(),
      click: (event) => {
        visit(...under(event))
        pin(rows.order[under(event)[0]])
      },
      keydown: press,
    },
    canvas,
    over,
  )
  const down = make("div", { class: "down", "aria-hidden": "true" })
  const across = make("div", { class: "across", "aria-hidden": "true" })
  for (const row of rows.order) down.append(make("span", { title: rows.names[row] }, rows.names[row]))
  for (const column of columns.order) across.append(make("span", {}, columns.names[column]))
  const node = make("div", { class: "matrix" }, tree, down, cells, across)

  let at = null // the cell in view: places of its row and column
  const inside = (value, count) => Math.min(count - 1, Math.max(0, value))
  function under(event) {
    const { left, top, width, height } = cells.getBoundingClientRect()
    return [
      inside(Math.floor(((event.clientY - top) / height) * M), M),
      inside(Math.floor(((event.clientX - left) / width) * N), N),
    ]
  }
  function visit(row, column) {
    if (at && at[0] === row && at[1] === column) return
    at = [row, column]
    point(rows.order[row], columns.order[column])
  }
  function leave() {
    if (!at) return
    at = null
    point(null, null)
  }
  function press(event) {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key]
    if (move) {
      const [row, column] = at ?? [node.row ?? 0, 0]
      visit(...(at ? [inside(row + move[0], M), inside(column + move[1], N)] : [row, column]))
    } else if (event.key === "Enter" && at) pin(rows.order[at[0]])
    else if (event.key === "Escape") pin(null)
    else return
    event.preventDefault()
  }
  node.mark = (row, column) => {
    node.row = rowAt[row] ?? null
    const places = [columnAt[column], rowAt[row]]
    marks.forEach((mark, i) => {
      mark.style.display = places[i] === undefined ? "none" : ""
      const box = i ? { x: 0, y: places[i], width: N, height: 1 } : { x: places[i], y: 0, width: 1, height: M }
      if (places[i] !== undefined) for (const [name, value] of Object.entries(box)) mark.setAttribute(name, value)
    })
    ;[...down.children].forEach((label, i) => label.classList.toggle("is-row", i === places[1]))
    ;[...across.children].forEach((label, i) => label.classList.toggle("is-column", i === places[0]))
  }
  // Names of columns so far apart that they do not touch.
  node.fit = () => {
    const every = Math.ceil((10 * N) / (across.clientWidth || 10 * N))
    ;[...across.children].forEach((label, i) => (label.style.visibility = i % every ? "hidden" : ""))
  }
  const power = (p) => (p < 0 ? `1/${2 ** -p}×` : `${2 ** p}×`)
  node.legend = make(
    "div",
    { class: "ramp" },
    power(-reach),
    make("i", {
      "aria-hidden": "true",
      style: `background: linear-gradient(90deg, ${DIVERGING.map((c) => `rgb(${c})`).join(", ")})`,
    }),
    power(reach),
  )
  return node
}
