// On a telephone Streamlit's menu of pages lies over the page: it closes once a page was chosen in it.
if (!window.gliedMenu) {
  window.gliedMenu = true
  const close = (tries) => {
    if (document.querySelector('[data-testid="stSidebar"]')?.dataset.collapsed !== "false" || !tries) return
    document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click()
    setTimeout(() => close(tries - 1), 200) // it may still be opening
  }
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return
    if (event.target.closest('[data-testid="stSidebarNavLink"]')) setTimeout(() => close(10))
  })
}
