// Marks the example that is the question of the comparison, among the buttons of all examples.
const mark = () => {
  const title = element.querySelector('[data-example]')?.dataset.example;
  const chips = document.querySelectorAll('#compare-examples button');
  if (!chips.length && element.isConnected) return requestAnimationFrame(mark);  // Gradio sets its parts in one by one
  chips.forEach(chip => chip.setAttribute('aria-pressed', String(!!title && chip.textContent.trim() === title)));
};
requestAnimationFrame(mark);
watch('value', () => requestAnimationFrame(mark));
