// The button for the page's colours: as the system, light, dark (theme.js).
const WORDS = {system: 'Colours: as the system', light: 'Colours: light', dark: 'Colours: dark'};
const button = () => element.querySelector('button');
const draw = () => {
  const name = window.playgroundTheme.name();
  button().dataset.theme = name;
  button().title = WORDS[name];
  button().setAttribute('aria-label', WORDS[name]);
};
element.addEventListener('click', event => {
  if (!event.target.closest('button')) return;
  window.playgroundTheme.next();
  draw();
});
draw();
