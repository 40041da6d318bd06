// The gallery: one button per photograph. Titles are file names: text, never markup.
export default function ({ data, parentElement, setStateValue }) {
  const strip = document.createElement("div")
  strip.className = "strip"
  strip.setAttribute("role", "group")
  strip.setAttribute("aria-label", "Gallery")
  for (const tile of data.tiles) {
    const button = document.createElement("button")
    const image = document.createElement("img")
    const title = document.createElement("span")
    image.src = tile.photo
    image.alt = tile.alt
    title.textContent = tile.title
    button.title = tile.title
    button.setAttribute("aria-pressed", String(tile.id === data.picked))
    button.append(image, title)
    button.onclick = () => setStateValue("picked", tile.id)
    strip.append(button)
  }
  const before = parentElement.querySelector(".strip")
  const scrolled = before ? before.scrollLeft : 0
  const focused = before ? [...before.children].indexOf(parentElement.getRootNode().activeElement) : -1
  rove(strip)
  if (before) before.replaceWith(strip)
  else parentElement.append(strip)
  strip.scrollLeft = scrolled
  strip.children[focused]?.focus({ preventScroll: true })
}
