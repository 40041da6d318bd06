// The board. Hovering never sends anything; a choice (word, head) is sent once, when it is made.

export default function ({ data: sent, parentElement, setStateValue }) {
  const old = parentElement.querySelector(".board")
  const drawn = sent.digest + sent.alt + sent.start.count
  if (old?.drawn === drawn) {
    old.send = setStateValue
    return old.leave
  }
  old?.leave()
  old?.remove()

  const data = { ...sent, ...JSON.parse(sent.trace) }
  const N = data.boxes.length
  const [width, height] = data.size
  const modes = data.groups ? ["word", "groups"] : ["word"]

  // ---- what is in view
  begin(data.start)
  const remembered = data.digest in memory.steps
  let step = Math.min(memory.steps[data.digest] ?? data.start.step ?? data.first, data.words.length - 1)
  memory.head = Math.min(memory.head, data.heads)
  memory.steps[data.digest] = step
  let pinned = (data.digest in memory.pins ? memory.pins : { [data.digest]: data.start.region })[data.digest] // region
  if (pinned >= N) pinned = null
  let hovered = null // region
  let second = null // region: the column of the matrix under the pointer
  let attribute = null // hovered or pinned attribute chip
  let pinnedAttribute = null
  let timer = null

  const mode = () => (modes.includes(memory.mode) ? memory.mode : "word")
  const look = () => (data.coarse ? memory.look : "fine")
  const regionWeights = () => pooled(look() === "coarse" ? data.coarse : data.fine, memory.head, step)
  const query = () => hovered ?? pinned ?? ranked(regionWeights() ?? [0], 1)[0]

  // What the average region gathers from each region, by head.
  const usuals = {}
  const usual = (head = memory.head) =>
    (usuals[head] ??= data.boxes
      .map((_, region) => pooled(data.groups, head, region))
      .reduce((sums, shares) => sums.map((sum, i) => sum + shares[i] / N), Array(N).fill(0)))
  // A region's group: what it gathers from each region; by default only what exceeds the usual, for some regions are
  // sought by all.
  function groupOf(region, head = memory.head) {
    const gathered = pooled(data.groups, head, region).map((share, i) => (memory.itself || i !== region ? share : 0))
    return asShares(memory.beyond ? gathered.map((share, i) => Math.max(0, share - usual(head)[i])) : gathered)
  }
  const ofUsual = (region, i) => times(pooled(data.groups, memory.head, region)[i] / Math.max(usual()[i], 1e-9))
  // How the photograph is marked beside the weights themselves.
  function marks() {
    const region = query()
    const grouped = mode() === "groups" && (attribute ?? pinnedAttribute) === null
    const share = (i) => pooled(data.groups, memory.head, region)[i]
    const told = (i) => `${percent(share(i))}, ${ofUsual(region, i)}`
    const of = grouped && memory.beyond ? { told, most: "furthest beyond the usual" } : {}
    return { marked: marked(), dashed: hovered !== null, second, ...of }
  }
  function shown() {
    const seen = attribute ?? pinnedAttribute
    if (seen !== null) return asShares(data.seen[seen])
    return mode() === "groups" ? groupOf(query()) : regionWeights()
  }

  // ---- elements
  const words = make("div", { class: "words", role: "group", "aria-label": "The caption, word by word" })
  const play = make("button", { class: "round", "aria-label": "Play the caption", title: "Play", click: toggle }, "▶")
  const slider = make("input", {
    type: "range",
    min: 0,
    max: data.words.length - 1,
    "aria-label": "Word of the caption",
    input: () => choose(+slider.value, false),
    change: () => choose(+slider.value),
  })
  const place = make("span")
  const named = headNames(data.heads)
  const heads = headPicker(data.heads, chooseHead)
  const tabs = (names, get, set) => {
    const group = make(
      "div",
      { class: "tabs", role: "group" },
      ...Object.entries(names).map(([value, [name, title]]) =>
        make(
          "button",
          {
            value,
            title,
            click: () => {
              set(value)
              draw()
            },
          },
          name,
        ),
      ),
    )
    group.update = () => [...group.children].forEach((b) => b.setAttribute("aria-pressed", b.value === get()))
    group.update()
    return rove(group)
  }
  const cite = (text, name) => text + (data.cited[name] && `: ${data.cited[name]}`)
  const modeTabs = tabs(
    {
      word: ["The word", "Where the model looked for each word"],
      groups: ["Region groups", cite("What each region gathers from the others", "groups")],
    },
    mode,
    (value) => {
      stop()
      memory.mode = value
    },
  )
  const lookTabs = tabs(
    {
      coarse: data.groups
        ? ["Groups first", cite("Attention over region groups", "coarse")]
        : ["Regions first", cite("Attention over regions", "coarse")],
      fine: ["Regions revisited", cite("Attention over single regions, with those in view", "fine")],
    },
    look,
    (value) => {
      memory.look = value
    },
  )
  const beyondTabs = tabs(
    {
      beyond: ["Beyond the usual", "What the region gathers more of than the average region of the photograph does"],
      all: ["All of it", "Its whole share of each region; some regions are sought by all"],
    },
    () => (memory.beyond ? "beyond" : "all"),
    (value) => {
      memory.beyond = value === "beyond"
    },
  )
  const allTabs = tabs(
    {
      one: ["One region", "The group of the region under the pointer"],
      all: ["All regions", "What every region gathers from every other, as a matrix"],
    },
    () => (memory.all ? "all" : "one"),
    (value) => {
      memory.all = value === "all"
    },
  )
  const itself = make("input", {
    type: "checkbox",
    change: () => {
      memory.itself = !itself.checked
      draw()
    },
  })
  const itselfLabel = make("label", {}, itself, "Leave the region itself out")
  const controls = make(
    "div",
    { class: "controls" },
    ...(modes.length > 1 ? [modeTabs] : []),
    make("div", {}, play, slider, place),
    make("div", {}, heads),
    ...(data.coarse ? [lookTabs] : []),
    ...(modes.length > 1 ? [allTabs, beyondTabs, itselfLabel] : []),
    displaySettings(),
  )

  const { stage, legend, photo, crop, at, visit, paint, paintBoxes, paintSmall } = photograph(data, {
    tabindex: 0,
    role: "application",
    "aria-label": `${data.alt}. ${N} regions: arrow keys move, plus and minus change the size, Enter pins, Escape clears.`,
    style: `max-width: calc(min(100%, ${Math.round((470 * width) / height)}px))`,
    pointermove: hover,
    pointerleave: () => point(null),
    click: pin,
    keydown: press,
  })
  const readout = make("p", { class: "readout", "aria-live": "polite" })
  const minis = rove(
    make(
      "div",
      { class: "minis", role: "group", "aria-label": "All regions" },
      ...data.boxes.map((_, i) =>
        make(
          "button",
          {
            "aria-label": `Region ${i + 1}, ${data.names[i]}`,
            title: `${i + 1}: ${data.names[i]}`,
            ...visited(
              () => point(i),
              () => {
                if (hovered === i) point(null)
              },
            ),
            click: () => {
              hold(pinned === i ? null : i)
            },
          },
          crop(i, 38),
        ),
      ),
    ),
  )
  const keys = make(
    "p",
    { class: "keys" },
    "Hover or use the arrow keys to visit a region, click or Enter pins it, again for the next larger, Esc clears." +
      (data.labels.length ? " The names of regions are the detector’s guesses." : ""),
  )
  const chips = chipRow("The likeliest attributes of the photograph", data.attributes, data.scores, (i) => ({
    ...visited(
      () => {
        attribute = i
        draw()
      },
      () => {
        if (attribute === i) {
          attribute = null
          draw()
        }
      },
    ),
    click: () => {
      pinnedAttribute = pinnedAttribute === i ? null : i
      draw()
    },
  }))
  const panel = make("div", { class: "panel" })
  // ---- all heads at a glance
  const side = 150
  const small = { width: width > height ? side : Math.round((side * width) / height) }
  small.height = Math.round((small.width * height) / width)
  const glances = named.map((name, head) =>
    make(
      "button",
      { click: () => chooseHead(head) },
      make("canvas", { ...small, "aria-hidden": "true" }),
      make("b", {}, name),
      make("span"),
    ),
  )
  const glance = make(
    "details",
    {
      class: "glance",
      toggle: () => {
        if (glance.open === view.glance) return
        setView({ glance: glance.open })
      },
    },
    make("summary", {}, "All heads at a glance"),
    rove(make("div", { role: "group", "aria-label": "All heads; choose one" }, ...glances)),
  )
  glance.hidden = data.heads < 2 || !data.fine
  glance.repaint = () => {
    if (glance.hidden) return
    glance.open = view.glance
    if (!view.glance) return
    const lines = named.map((_, head) =>
      mode() === "groups" ? groupOf(query(), head) : pooled(look() === "coarse" ? data.coarse : data.fine, head, step),
    )
    paintSmall(
      glances.map((button) => button.firstChild),
      lines,
    )
    glances.forEach((button, head) => {
      button.setAttribute("aria-pressed", head === memory.head)
      const [most] = ranked(lines[head], 1)
      button.lastChild.textContent = `${most + 1} ${data.names[most]}`
    })
  }
  follow(glance)
  if (!photo.complete) photo.addEventListener("load", () => glance.repaint(), { once: true })

  const board = make(
    "div",
    { class: "board" },
    words,
    controls,
    make("div", { class: "parts" }, make("div", {}, stage, legend, readout, minis, keys, glance), panel),
    ...(data.attributes.length
      ? [
          make(
            "h3",
            {},
            `The ${data.attributes.length} likeliest attributes of the photograph, and the probability of each`,
          ),
          chips,
        ]
      : []),
  )

  // ---- drawing
  const marked = () =>
    mode() === "groups" && attribute === null && pinnedAttribute === null ? query() : (hovered ?? pinned)
  function drawMinis(weights) {
    const reach = weights && Math.max(...weights)
    ;[...minis.children].forEach((b, i) => {
      b.setAttribute("aria-pressed", i === marked())
      b.style.setProperty("--share", weights ? `${(100 * weights[i]) / reach}%` : "0%")
    })
  }

  const regionRows = (weights, falls) =>
    ranked(weights, 6).map((i) =>
      weightRow(`${i + 1} ${data.names[i]}`, weights[i], Math.max(...weights), falls?.[i], { picture: crop(i, 34) }),
    )
  // Of a captioner that attends to no region: those without which the word falls furthest.
  const neededRows = (falls) =>
    ranked(falls, 6).map((i) =>
      weightRow(`${i + 1} ${data.names[i]}`, null, Math.max(...falls, 1e-9), falls[i], { picture: crop(i, 34) }),
    )
  // How far an attention depends on its key alone: here, and over the data set of a report.
  function keyShares(kinds, what) {
    const known = Object.entries(kinds).filter(([name]) => data.key_shares[name] != null)
    const said = known.map(([name, over]) => {
      const usually = data.reported[name]
      return `${data.key_shares[name].toFixed(2)} over ${over}${usually === undefined ? "" : ` (${data.reported.over}: ${usually.toFixed(2)})`}`
    })
    if (!said.length) return []
    return [
      make(
        "p",
        { class: "note" },
        `Key share ${said.join(", ")}: the part of this attention that is the same whichever ${what} attends; at 1 every ${what} attends alike.`,
      ),
    ]
  }
  // What the word before this one read, of the words so far; also as bars under the caption.
  const readWords = () => (data.context && step > 0 ? pooled(data.context, memory.head, step).slice(0, step + 1) : null)
  const bars = make("input", { type: "checkbox", change: () => setView({ read: bars.checked }) })
  const barsLabel = make("label", {}, bars, "under the caption")
  function drawRead() {
    const read = view.read && mode() === "word" ? readWords() : null
    const reach = read && Math.max(...read)
    ;[...words.children].forEach((b, t) =>
      b.style.setProperty("--read", `${read?.[t + 1] ? (100 * read[t + 1]) / reach : 0}%`),
    )
    bars.checked = view.read
  }
  words.repaint = drawRead
  follow(words)
  function wordRows() {
    const read = readWords()
    if (!read) return []
    const name = (j) => (j ? `${j} ${data.words[j - 1]}` : "(start)")
    const help = `Context attention${data.cited.context && `, ${data.cited.context}`}: the word before this one reads the words so far`
    return [
      heading("Earlier words it read", barsLabel, help),
      ...ranked(read, 4).map((j) => weightRow(name(j), read[j], Math.max(...read))),
    ]
  }

  function drawWordPanel(weights) {
    const read = data.read && pooled(data.read, memory.head, step),
      p = Math.exp(data.log_probabilities[step])
    const falls = data.region_falls[step],
      attributeFalls = data.attribute_falls[step]
    const rho = data.agreement[memory.head][step] ?? []
    const likely = data.alternatives[step],
      chances = data.alternative_log_probabilities[step].map(Math.exp),
      others = Math.max(0, 1 - chances.reduce((a, b) => a + b, 0))
    const title = `“${data.words[step]}”`
    const correlation = (value, what) => `${value === null ? "unknown" : signed(value)} over ${what}`
    panel.replaceChildren(
      make("h2", {}, title),
      make(
        "p",
        {},
        `probability ${percent(p)}, log p ${signed(data.log_probabilities[step])}; whole caption log p ${signed(data.total)}`,
      ),
      ...(weights
        ? [
            heading(
              look() === "fine"
                ? "Regions it looked at"
                : data.groups
                  ? "Groups it drew on first"
                  : "Regions it drew on first",
              falls ? "attention | fall without" : "attention",
            ),
            ...regionRows(weights, falls),
          ]
        : falls
          ? [heading("Regions that it needs most", "fall without"), ...neededRows(falls)]
          : []),
      ...(read
        ? [
            heading("Attributes it looked at", attributeFalls ? "attention | fall without" : "attention"),
            ...ranked(read, 8).map((m) =>
              weightRow(data.attributes[m], read[m], Math.max(...read), attributeFalls?.[m]),
            ),
          ]
        : []),
      ...(falls
        ? [
            make(
              "p",
              { class: "note" },
              "Fall: how far the word’s log p falls when that region or attribute is taken away." +
                (rho.length
                  ? ` Attention is not explanation: its rank correlation with the fall is ${rho.map((value, i) => correlation(value, data.senses[i])).join(", ")}.`
                  : ""),
            ),
          ]
        : []),
      ...keyShares({ [look()]: "regions", read: "attributes" }, "word"),
      ...wordRows(),
      heading("What it might have said here", "probability"),
      ...likely.map((word, i) =>
        weightRow(word, chances[i], chances[0], undefined, { css: word === data.words[step] ? "now" : "" }),
      ),
      weightRow("any other or (unknown)", others, chances[0]),
    )
  }

  function drawGroupPanel(weights) {
    const region = query(),
      gathered = pooled(data.groups, memory.head, region),
      seen = data.seen.map((line) => line[region])
    panel.replaceChildren(
      make("h2", {}, `Region ${region + 1}`),
      make("p", {}, data.names[region]),
      heading(memory.beyond ? "Its group, beyond the usual" : "Its group", "share | of the usual"),
      ...ranked(weights, 6)
        .filter((i) => weights[i] > 0)
        .map((i) =>
          weightRow(`${i + 1} ${data.names[i]}`, gathered[i], Math.max(...gathered), ofUsual(region, i), {
            picture: crop(i, 34),
          }),
        ),
      make(
        "p",
        { class: "note" },
        `${data.cited.groups ? `Region distilling, ${data.cited.groups}` : "Attention of the regions to one another"}: the regions this one is enriched with before any word is said. Shares sum to 100 %. 1× of the usual: as much as the average region of the photograph takes.`,
      ),
      ...keyShares({ groups: "regions" }, "region"),
      heading("Attributes seen in this region", "probability here"),
      ...ranked(seen, 8).map((m) => weightRow(data.attributes[m], seen[m], Math.max(...seen, 1e-6))),
    )
  }

  // The matrix stays as it is while the pointer moves over it.
  let matrix = null
  function drawMatrixPanel() {
    const of = `${memory.head} ${memory.beyond}`
    if (matrix?.of !== of || !matrix.isConnected) {
      const rows = data.boxes.map((_, region) => pooled(data.groups, memory.head, region))
      const found = data.alike.heads[memory.head]
      const even = Array(N).fill(1 / N)
      const { order } = found
      matrix = drawMatrix(
        {
          shares: rows,
          usual: memory.beyond ? usual() : even,
          rows: { order, names: data.names.map((name, i) => `${i + 1} ${name}`) },
          columns: { order, names: data.boxes.map((_, i) => i + 1) },
          forks: found.forks,
          ends: found.ends,
          cut: data.alike.cut,
          label: `What each of ${N} regions, a row, gathers from each, a column`,
        },
        (row, column) => {
          second = column
          point(row)
        },
        hold,
      )
      matrix.of = of
      panel.replaceChildren(
        make("h2", {}, "What each gathers from each"),
        make(
          "p",
          { class: "note" },
          `A row is a region’s group, a column a region it gathers from${data.cited.groups && ` (${data.cited.groups})`}. 1× is ${memory.beyond ? "what the average region takes of that one" : "an even share"}.`,
        ),
        matrix.legend,
        matrix,
        make(
          "details",
          {},
          make("summary", {}, "Regions that gather alike"),
          make("ul", {}, ...found.told.map((text) => make("li", {}, text))),
          make(
            "p",
            { class: "note" },
            `They stand side by side, framed where their mean correlation beyond the usual is ${data.alike.from} or more: the dotted line in the tree, our threshold. It says that the captioner treats them alike, not that they gather from one another, are one object, or that a word depends on them.`,
          ),
        ),
        ...keyShares({ groups: "regions" }, "region"),
      )
      matrix.fit()
    }
    matrix.mark(query(), second)
  }

  function drawReadout(weights) {
    const region = hovered ?? pinned,
      seen = attribute ?? pinnedAttribute
    const about =
      seen !== null ? `“${data.attributes[seen]}” was detected here` : `of the attention of “${data.words[step]}”`
    if (region === null) {
      readout.textContent =
        seen !== null
          ? `Where “${data.attributes[seen]}” was detected.`
          : mode() === "groups"
            ? "Hover over the photograph to see the group of each region."
            : weights
              ? `Where the model looked for “${data.words[step]}”${look() === "coarse" && data.groups ? ", by groups" : ""}. Coloured: more than an even share; dark: less.`
              : `The model attends to no region. Hover over one to see how far “${data.words[step]}” falls without it.`
      return
    }
    if (seen === null && mode() === "groups") {
      const from = second ?? region
      const share = pooled(data.groups, memory.head, region)[from]
      const whom = from === region ? "itself" : `region ${from + 1} (${data.names[from]})`
      readout.textContent = `Region ${region + 1} (${data.names[region]}) gathers ${percent(share)} from ${whom}, ${ofUsual(region, from)} what is usual from there, ${times(share * N)} the even share.`
      return
    }
    const fall = seen === null && mode() === "word" ? data.region_falls[step]?.[region] : null
    readout.textContent =
      (weights
        ? `Region ${region + 1} (${data.names[region]}): ${percent(weights[region])} ${about}, ${times(weights[region] * N)} the even share.`
        : `Region ${region + 1} (${data.names[region]}).`) + fallTold(fall)
  }

  function drawWords() {
    words.replaceChildren(
      ...data.words.map((word, t) => {
        const p = Math.exp(data.log_probabilities[t])
        const button = make(
          "button",
          {
            "aria-pressed": t === step,
            "aria-label": `${word}, probability ${percent(p)}`,
            click: () => {
              stop()
              choose(t)
            },
          },
          word,
          make("small", {}, make("i", { style: `background: rgba(11, 132, 132, ${p.toFixed(2)})` }), percent(p)),
        )
        return button
      }),
    )
    rove(words)
  }

  function draw() {
    const weights = shown()
    pressOnly(words, mode() === "word" ? step : -1)
    slider.value = step
    place.textContent = `${step + 1} of ${data.words.length}`
    heads.value = memory.head
    itself.checked = !memory.itself
    modeTabs.update()
    lookTabs.update()
    beyondTabs.update()
    allTabs.update()
    for (const part of [allTabs, beyondTabs, itselfLabel]) part.style.display = mode() === "groups" ? "" : "none"
    lookTabs.style.display = mode() === "word" ? "" : "none"
    pressOnly(chips, pinnedAttribute)
    paint(weights, marks())
    drawMinis(weights)
    drawReadout(weights)
    drawRead()
    glance.repaint()
    if (mode() !== "groups") drawWordPanel(regionWeights())
    else if (memory.all) drawMatrixPanel()
    else drawGroupPanel(groupOf(query()))
  }

  // ---- what a person does
  const commit = paced(() => board.send("choice", { trace: data.digest, step, head: memory.head, region: pinned }))
  function choose(t, done = true) {
    memory.mode = "word"
    pinnedAttribute = null // else the photograph would still show it
    memory.steps[data.digest] = step = t
    draw()
    if (done) commit()
  }
  function chooseHead(head) {
    memory.head = head
    draw()
    commit()
  }
  function toggle() {
    if (timer) return stop()
    timer = setInterval(() => choose((step + 1) % data.words.length, false), 1100)
    play.textContent = "❚❚"
    play.setAttribute("aria-label", "Pause")
  }
  function stop() {
    if (!timer) return
    clearInterval(timer)
    timer = null
    commit() // while it plays, the page's tables stay
    play.textContent = "▶"
    play.setAttribute("aria-label", "Play the caption")
  }

  let drawnSecond = null
  function point(region) {
    if (region === hovered && second === drawnSecond) return
    hovered = region
    drawnSecond = second
    if (mode() === "groups") draw()
    else {
      const weights = shown()
      paintBoxes(weights, marks())
      drawMinis(weights)
      drawReadout(weights)
    }
  }
  // Pins a region, or none; Export then offers its group.
  function hold(region) {
    const other = region !== pinned
    memory.pins[data.digest] = pinned = region
    draw()
    if (other) commit()
  }
  function hover(event) {
    second = null
    if (event.pointerType !== "touch") point(at(event)[0] ?? null)
  }
  function pin(event) {
    const found = at(event)
    const next = found[found.indexOf(pinned) + 1] ?? null // again on the same spot: the next larger, at last none
    hovered = null
    hold(next)
  }
  function press(event) {
    const from = hovered ?? pinned ?? query()
    const next = visit(from, event.key)
    if (next !== undefined) point(next)
    else if (event.key === "Enter") {
      hovered = null
      hold(pinned === from ? null : from)
    } else if (event.key === "Escape") {
      hovered = pinnedAttribute = null
      hold(null)
    } else return
    event.preventDefault()
  }
  board.drawn = drawn
  board.send = setStateValue
  board.leave = () => {
    clearInterval(timer)
    commit.stop()
  }
  parentElement.append(board)
  drawWords()
  draw()
  if (remembered) commit() // the page draws its tables for the word that this tab remembers
  return board.leave
}
