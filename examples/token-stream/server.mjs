// An API with the streams of language models, and a stream whose client confirms each token: node server.mjs PORT
import { createServer } from 'node:http';

const port = process.argv[2];
const tokens = ['Messages', ' arrive', ' one', ' by', ' one', '.'];
// Continues the confirmed streams, by their ID.
const waiting = new Map();

const chunk = (token) => `data: ${JSON.stringify({ object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content: token } }] })}\n\n`;

createServer(async (request, response) => {
  const url = new URL(request.url, 'http://backend');
  const id = url.searchParams.get('confirm');
  if (url.pathname === '/v1/chat/completions') {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    for (const token of tokens) {
      response.write(chunk(token));
      // The next token is not written before the client has this one.
      if (id) await new Promise((resolve) => waiting.set(id, resolve));
    }
    response.end('data: [DONE]\n\n');
  } else if (url.pathname === '/v1/confirm') {
    waiting.get(id)?.();
    response.writeHead(204).end();
  } else {
    response.writeHead(404).end();
  }
}).listen(Number(port), process.env.HOST ?? '127.0.0.1');
