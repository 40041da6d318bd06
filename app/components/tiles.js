// The photographs of the gallery and what was said of them. An address works by itself (a new tab); a plain click or
// Enter stays in this session. Titles are file names, and words those of a checkpoint: text, never markup.
function element(name, text = "", className = "") {
  const made = document.createElement(name)
  made.textContent = text
  made.className = className
  return made
}

function drawTile({ id, title, alt, photo, badge, captions, notes }, open) {
  const image = element("img")
  image.src = photo
  image.alt = alt
  const link = element("a")
  link.href = "explore?photo=" + encodeURIComponent(id)
  link.dataset.id = id
  link.append(image, element("b", title))
  if (badge) link.append(element("span", badge, "badge"))
  link.onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return
    event.preventDefault()
    open(id)
  }
  const tile = element("div", "", "tile")
  tile.append(link)
  for (const { by, words, differs } of captions) {
    const line = element("p")
    line.append(element("small", by))
    words.forEach((word, i) => line.append(element(differs[i] ? "u" : "span", word), " "))
    tile.append(line)
  }
  for (const note of notes) tile.append(element("p", note, "note"))
  return tile
}

export default function ({ data, parentElement, setTriggerValue }) {
  let tiles = parentElement.querySelector(".tiles")
  if (!tiles) parentElement.append((tiles = element("div", "", "tiles")))
  const focused = tiles.querySelector("a:focus")?.dataset.id
  tiles.replaceChildren(...data.tiles.map((tile) => drawTile(tile, (id) => setTriggerValue("opened", id))))
  for (const link of tiles.querySelectorAll("a")) if (link.dataset.id === focused) link.focus({ preventScroll: true })
}
