// Reads a stream of tokens and confirms each one: a gateway that buffers the stream stops it. node client.mjs URL
const base = process.argv[2] ?? 'http://127.0.0.1:8080';
const id = String(process.pid);

const response = await fetch(`${base}/v1/chat/completions?confirm=${id}`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ model: 'any', stream: true, messages: [{ role: 'user', content: 'How?' }] }),
});
let text = '';
let tokens = 0;
let answer = '';
for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
  text += piece;
  let end;
  while ((end = text.indexOf('\n\n')) >= 0) {
    const data = text.slice('data: '.length, end);
    text = text.slice(end + 2);
    if (data === '[DONE]') continue;
    answer += JSON.parse(data).choices[0].delta.content;
    tokens += 1;
    await fetch(`${base}/v1/confirm?confirm=${id}`, { method: 'POST' });
  }
}
console.log(`${tokens} tokens, each before the next was sent: ${answer}`);
