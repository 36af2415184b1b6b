// Marks the example that is the question of the comparison, among the buttons of all examples.
const mark = () => {
  const title = element.querySelector('[data-example]')?.dataset.example;
  for (const chip of document.querySelectorAll('#compare-examples button'))
    chip.setAttribute('aria-pressed', String(!!title && chip.textContent.trim() === title));
};
requestAnimationFrame(mark);  // once the buttons are there, too
watch('value', () => requestAnimationFrame(mark));
