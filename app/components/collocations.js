// The collocations of a photograph: which attributes each input word calls up, head by head. Hovering never sends
// anything; a choice of a pivot or head is sent once, when it is made.

const LISTED = 10 // attributes of the pivot in view

export default function ({ data, parentElement, setStateValue }) {
  const old = parentElement.querySelector(".collocations")
  const drawn = data.digest + data.start.count
  if (old?.drawn === drawn) {
    old.send = setStateValue
    return old.leave
  }
  old?.leave()
  old?.remove()

  const M = data.attributes.length
  begin(data.start)
  memory.head = Math.min(memory.head, data.heads)
  let pinned = data.first // row: the pivot
  let hovered = null // row
  let attribute = null // column under the pointer
  let matrix = null
  const pivot = () => hovered ?? pinned

  const heads = headPicker(data.heads, (head) => {
    memory.head = head
    drawMap()
    draw()
    commit()
  })
  const map = make("div")
  const readout = make("p", { class: "readout", "aria-live": "polite" })
  const title = make("h2")
  const list = make("div")
  const all = make(
    "div",
    { class: "collocations" },
    make("div", { class: "controls" }, make("div", {}, heads)),
    map,
    readout,
    make(
      "p",
      { class: "keys" },
      "Hover or use the arrow keys to visit a cell, click or Enter pins its word, Esc returns to the first word.",
    ),
    make("div", { class: "panel" }, title, list),
    make(
      "p",
      { class: "note" },
      `Before a word is said, the word before it, the pivot, calls up attributes${data.cited && ` (${data.cited})`}. Lift: attention as a multiple of the even share. It tells where the captioner read, not why it chose a word.`,
    ),
  )

  function drawMap() {
    heads.value = memory.head
    const { order, forks } = data.trees[memory.head]
    matrix = drawMatrix(
      {
        shares: data.lifts[memory.head],
        usual: Array(M).fill(1),
        rows: { order: data.inputs.map((_, row) => row), names: data.inputs.map((word, row) => `${row} ${word}`) },
        columns: { order, names: data.attributes },
        forks,
        label: `Which of ${M} attributes, a column, each input word, a row, calls up`,
      },
      point,
      hold,
    )
    map.replaceChildren(matrix, matrix.legend)
    requestAnimationFrame(() => matrix.fit())
  }

  function draw() {
    const row = pivot(),
      lifts = data.lifts[memory.head][row],
      falls = data.falls[row],
      top = ranked(lifts, LISTED)
    matrix.mark(row, attribute)
    title.textContent = `“${data.inputs[row]}”`
    list.replaceChildren(
      heading("Attributes that it calls up", falls ? `lift | fall of “${data.words[row]}”` : "lift"),
      ...top.map((m) =>
        weightRow(data.attributes[m], lifts[m] / M, lifts[top[0]] / M, falls?.[m], { told: times(lifts[m]) }),
      ),
    )
    readout.textContent =
      attribute === null
        ? `“${data.inputs[row]}” calls up “${data.attributes[top[0]]}” most.`
        : `“${data.inputs[row]}” calls up “${data.attributes[attribute]}” ${times(lifts[attribute])} the even share, ${percent(lifts[attribute] / M)} of its attention.` +
          told(row, attribute)
  }
  function told(row, m) {
    const fall = data.falls[row]?.[m]
    if (fall == null) return ""
    const way = fall < 0 ? "rises" : "falls"
    return ` Without it log p of “${data.words[row]}”, which came next, ${way} by ${Math.abs(fall).toFixed(3)}.`
  }

  const commit = paced(() => all.send("choice", { trace: data.digest, pivot: pinned, head: memory.head }))
  function point(row, column) {
    hovered = row
    attribute = column
    draw()
  }
  function hold(row) {
    pinned = row ?? data.first
    draw()
    commit()
  }

  const resized = new ResizeObserver(() => matrix.fit())
  resized.observe(all)
  all.drawn = drawn
  all.send = setStateValue
  all.leave = () => {
    commit.stop()
    resized.disconnect()
  }
  parentElement.append(all)
  drawMap()
  draw()
  return all.leave
}
