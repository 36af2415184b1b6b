// Buttons that copy the text before them: `<pre>…</pre><button data-copy>Copy</button>`, and say so for a moment.
element.addEventListener('click', async event => {
  const button = event.target.closest('button[data-copy]');
  if (!button) return;
  const text = button.previousElementSibling.textContent;
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
  } else {  // a page that came by plain HTTP from another computer
    const box = Object.assign(document.createElement('textarea'), {value: text});
    document.body.append(box);
    box.select();
    document.execCommand('copy');
    box.remove();
  }
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = 'Copy'; }, 1500);
});
