// Where the window is narrow, Streamlit's menu of pages lies over the page, and stays there when a page was chosen.
export default function () {
  if (window.gliedMenu) return
  window.gliedMenu = true
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return
    if (event.target.closest('[data-testid="stSidebarNavLink"]'))
      setTimeout(() => document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click())
  })
}
