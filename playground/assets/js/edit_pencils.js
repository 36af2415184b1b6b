// A press on the pencil beside one of the person's messages puts its number, from 0, into `value`.
//
// Gradio 6.31 would open an editor of its own in the message, with the markup in which the page shows typed text. The
// pencil is the last button below a message.
document.addEventListener('click', event => {
  const panel = event.target.closest?.('#chat-log .message-buttons');
  const button = event.target.closest?.('button');
  if (!panel || !button || button !== [...panel.querySelectorAll('button')].at(-1)) return;
  const messages = [...document.querySelectorAll('#chat-log :is([data-testid=user], [data-testid=bot])')];
  const isAbove = message => message.compareDocumentPosition(panel) & Node.DOCUMENT_POSITION_FOLLOWING;
  const message = messages.filter(isAbove).at(-1);
  if (message?.dataset.testid !== 'user') return;
  event.stopPropagation();
  event.preventDefault();
  props.value = String(messages.filter(each => each.dataset.testid === 'user').indexOf(message));
  trigger('input');
  document.querySelector('#chat-message textarea')?.focus();
}, true);
