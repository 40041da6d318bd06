// Small maps side by side, one a head: one button each. Titles are text, never markup.
export default function ({ data, parentElement, setStateValue }) {
  const maps = document.createElement("div")
  maps.className = "maps"
  maps.setAttribute("role", "group")
  maps.setAttribute("aria-label", data.label)
  data.maps.forEach(({ title, picture }, head) => {
    const button = document.createElement("button")
    const image = document.createElement("img")
    const name = document.createElement("span")
    image.src = picture
    image.alt = ""
    name.textContent = title
    button.setAttribute("aria-pressed", String(head === data.picked))
    button.append(image, name)
    button.onclick = () => setStateValue("picked", head)
    maps.append(button)
  })
  const before = parentElement.querySelector(".maps")
  const focused = before ? [...before.children].indexOf(parentElement.getRootNode().activeElement) : -1
  rove(maps)
  if (before) before.replaceWith(maps)
  else parentElement.append(maps)
  maps.children[focused]?.focus({ preventScroll: true })
}
