// While a person types, waits a moment after each key and then sends the newest text only.
text => new Promise(done => setTimeout(
  () => done(document.querySelector('#models-search :is(input, textarea)').value), 350))
