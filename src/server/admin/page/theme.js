// Colour theme: that of the system, light or dark. Applied while the header is parsed, so that no other theme is painted.

const THEMES = ["system", "light", "dark"];

function currentTheme() {
  const theme = stored("theme");
  return THEMES.includes(theme) ? theme : "system";
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function startThemeSwitch() {
  const button = byId("theme");
  setText(button, `Theme: ${currentTheme()}`);
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(currentTheme()) + 1) % THEMES.length];
    store("theme", next === "system" ? null : next);
    applyTheme(next);
    setText(button, `Theme: ${next}`);
    requestRender();
  });
}

applyTheme(currentTheme());
