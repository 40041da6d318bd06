// One Tab stop for a row of buttons: the arrow keys, Home and End move along it. The stop is the button that was visited
// last, at first the pressed one. Components with rows of buttons put this file before their own.
function rove(row) {
  const buttons = () => [...row.querySelectorAll("button")]
  row.stopAt = (stop) => buttons().forEach((button) => (button.tabIndex = button === stop ? 0 : -1))
  row.addEventListener("focusin", (event) => row.stopAt(event.target))
  row.addEventListener("keydown", (event) => {
    const all = buttons()
    const at = all.indexOf(event.target)
    const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: -1 }[
      event.key
    ]
    if (at < 0 || next === undefined || event.altKey || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    all.at(next % all.length).focus()
  })
  row.stopAt(row.querySelector('button[aria-pressed="true"]') ?? buttons()[0])
  return row
}
