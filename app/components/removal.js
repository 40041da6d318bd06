// A photograph whose regions and attributes can be struck out and put back, and a place to add attributes. What was
// changed is drawn at once and sent whole, so that nothing is lost however fast a person clicks.

export default function ({ data, parentElement, setTriggerValue }) {
  const old = parentElement.querySelector(".removal")
  if (old?.drawn === data.digest) return old.update(data, setTriggerValue)
  old?.remove()

  const [width, height] = data.size
  // `made` counts the changes; the server's answer to an earlier one does not undo a later one
  let send = setTriggerValue,
    heard = data.made,
    made = data.made ?? 0,
    hovered = null
  let regions = new Set(data.regions),
    attributes = new Set(data.struck),
    added = new Set(data.added)

  // ---- elements
  const { stage, crop, at, visit } = photograph(data, {
    tabindex: 0,
    role: "application",
    "aria-label": `${data.alt}. ${data.boxes.length} regions: arrow keys move, plus and minus change the size, Enter strikes out or puts back, Escape clears.`,
    style: `max-width: calc(min(100%, ${Math.round((460 * width) / height)}px))`,
    pointermove: (event) => {
      if (event.pointerType !== "touch") point(at(event)[0] ?? null)
    },
    pointerleave: () => point(null),
    click: (event) => strike(at(event)[0]),
    keydown: press,
  })
  const layer = document.createElementNS(SVG, "svg")
  layer.setAttribute("viewBox", `0 0 ${width} ${height}`)
  layer.setAttribute("preserveAspectRatio", "none")
  const numbers = make("div", { "aria-hidden": "true" })
  stage.append(layer, numbers)
  const readout = make("p", { class: "readout", "aria-live": "polite" })
  const minis = make(
    "div",
    { class: "minis", role: "group", "aria-label": "All regions" },
    ...data.names.map((name, i) =>
      make(
        "button",
        {
          "aria-label": `Strike out region ${i + 1}, ${name}`,
          title: `${i + 1}: ${name}`,
          pointerenter: () => point(i),
          pointerleave: () => point(null),
          focus: () => point(i),
          blur: () => point(null),
          click: () => strike(i),
        },
        crop(i, 38),
      ),
    ),
  )
  const chips = make(
    "div",
    { class: "chips", role: "group", "aria-label": "Attributes of the photograph" },
    ...data.attributes.map((word, m) =>
      make(
        "button",
        {
          "aria-label": `Strike out the attribute ${word}`,
          style: `--score: ${Math.round(45 * data.scores[m])}%`,
          title: `${word}: probability ${percent(data.scores[m])}; ${effect(data.attribute_falls[m])}`,
          click: () => strikeWord(m),
        },
        word + " ",
        make("small", {}, data.scores[m].toFixed(2)),
      ),
    ),
  )
  const more = make("div", { class: "chips", role: "group", "aria-label": "Attributes that you added" })
  const word = make("input", {
    type: "text",
    maxlength: data.longest,
    placeholder: "a word, such as ball",
    autocomplete: "off",
    change: add,
  })
  const removal = make(
    "div",
    { class: "removal" },
    stage,
    readout,
    minis,
    make("h4", {}, "Attributes, and the probability of each"),
    chips,
    make("label", {}, "Add an attribute", word),
    more,
  )

  // ---- drawing
  function effect(fall) {
    if (fall === null) return "the only one"
    if (Math.abs(fall) < 0.005) return "without it alone the caption’s log p stays"
    return `without it alone the caption’s log p ${fall > 0 ? "falls" : "rises"} by ${Math.abs(fall).toFixed(2)}`
  }
  function shape(tag, attributes) {
    const node = document.createElementNS(SVG, tag)
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
    layer.append(node)
  }
  function draw() {
    layer.replaceChildren()
    numbers.replaceChildren()
    for (const i of regions) {
      const [x1, y1, x2, y2] = data.boxes[i]
      shape("rect", { class: "out", x: x1, y: y1, width: x2 - x1, height: y2 - y1 })
      shape("path", { class: "out", d: `M${x1} ${y1} L${x2} ${y2} M${x1} ${y2} L${x2} ${y1}` })
      numbers.append(make("span", { style: `left: ${(100 * x1) / width}%; top: ${(100 * y1) / height}%` }, `${i + 1}`))
    }
    if (hovered !== null) {
      const [x, y, right, bottom] = data.boxes[hovered]
      for (const kind of ["edge", "mark"]) shape("rect", { class: kind, x, y, width: right - x, height: bottom - y })
    }
    readout.textContent =
      hovered !== null
        ? `Region ${hovered + 1}, ${data.names[hovered]}${regions.has(hovered) ? ": struck out; click or Enter puts it back." : `: ${effect(data.region_falls[hovered])}.`}`
        : `${regions.size} of ${data.boxes.length} regions and ${attributes.size} of ${data.attributes.length} attributes are struck out.`
    ;[...minis.children].forEach((button, i) => {
      button.setAttribute("aria-pressed", regions.has(i))
      button.classList.toggle("now", i === hovered)
    })
    ;[...chips.children].forEach((button, m) => button.setAttribute("aria-pressed", attributes.has(m)))
    more.replaceChildren(
      ...[...added].map((name) =>
        make("button", { "aria-label": `Take out ${name} again`, click: () => toggle(added, name) }, `${name} ×`),
      ),
    )
  }

  // ---- what a person does
  function point(region) {
    if (region === hovered) return
    hovered = region
    draw()
  }
  function toggle(set, one) {
    if (!set.delete(one)) set.add(one)
    draw()
    send("edit", {
      trace: data.digest,
      made: ++made,
      regions: [...regions],
      attributes: [...attributes],
      added: [...added],
    })
  }
  function strike(region) {
    if (region !== undefined) toggle(regions, region)
  }
  function strikeWord(attribute) {
    toggle(attributes, attribute)
  }
  function add() {
    const name = word.value.trim().toLowerCase()
    word.value = ""
    if (added.size >= data.most)
      readout.textContent = `At most ${data.most} attributes can be added; take one out first.`
    else if (name && !added.has(name)) toggle(added, name)
  }
  function press(event) {
    const next =
      hovered === null && event.key.startsWith("Arrow") ? 0 : hovered === null ? undefined : visit(hovered, event.key)
    if (next !== undefined) point(next)
    else if (event.key === "Enter" && hovered !== null) strike(hovered)
    else if (event.key === "Escape") point(null)
    else return
    event.preventDefault()
  }

  removal.drawn = data.digest
  removal.update = (now, sender) => {
    send = sender
    if (now.made === null && heard !== null) made = 0 // the server was started anew and has heard of none
    if ((now.made ?? 0) < made) return
    heard = now.made
    regions = new Set(now.regions)
    attributes = new Set(now.struck)
    added = new Set(now.added)
    draw()
  }
  parentElement.append(removal)
  draw()
}
