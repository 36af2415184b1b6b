// The copy buttons of Gradio 6.31 copy what a message is shown from. The page calls this once, when it opens, so that
// they copy what was written: the text of a <pre class="gp-typed">, and the original that stands before a message that
// is shown from another text, as `<!--written:BASE64:LENGTH-->` (web/html/reply.py).
() => {
  const typed = /<pre class="gp-typed">[\s\S]*?<\/pre>\n?/g;
  const heading = /<div class="gp-answer-of">[^<]*<\/div>\n*|\n*<div class="gp-answer-figures"[^>]*><\/div>/g;  // around an answer
  const written = /<!--written:([A-Za-z0-9+\/=]*):(\d+)-->/;

  const asTyped = text => text.replace(heading, '').replace(typed, markup =>
    new DOMParser().parseFromString(markup, 'text/html').querySelector('pre').textContent);
  const asWritten = text => {
    let done = '';
    for (let found; (found = written.exec(text));) {
      const bytes = Uint8Array.from(atob(found[1]), letter => letter.charCodeAt(0));
      done += asTyped(text.slice(0, found.index)) + new TextDecoder().decode(bytes);
      text = text.slice(found.index + found[0].length + Number(found[2]));
    }
    return done + asTyped(text);
  };

  const clipboard = navigator.clipboard;  // none on a page that came by plain HTTP from another computer
  if (clipboard) {
    const write = clipboard.writeText.bind(clipboard);
    clipboard.writeText = text => write(asWritten(text));
  }
  document.addEventListener('copy', event => {
    const box = event.target;
    if (box.matches?.('body > textarea') && box.value !== asWritten(box.value)) {  // Gradio's, for such a page
      event.clipboardData.setData('text/plain', asWritten(box.value));
      event.preventDefault();
    }
  });
}
