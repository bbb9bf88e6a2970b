// An API with its own token service, whose keys rotate: node server.mjs PORT. It needs no packages.
import { createSign, generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';

const port = process.argv[2];
let made = 0;
const key = () => ({ kid: `key-${(made += 1)}`, ...generateKeyPairSync('rsa', { modulusLength: 2048 }) });
// The set has the key of yesterday's tokens, the key that signs, and the next one, so that gateways have it in time.
let [previous, current, next] = [null, key(), key()];

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
function token(user) {
  const text = `${encoded({ alg: 'RS256', kid: current.kid })}.${encoded({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
  return `${text}.${createSign('RSA-SHA256').update(text).sign(current.privateKey, 'base64url')}`;
}

const paths = {
  '/jwks.json': () => {
    const keys = [previous, current, next].filter(Boolean);
    return JSON.stringify({ keys: keys.map(({ kid, publicKey }) => ({ ...publicKey.export({ format: 'jwk' }), kid, use: 'sig' })) });
  },
  '/login': () => token('ada'),
  '/rotate': () => {
    [previous, current, next] = [current, next, key()];
    return `${current.kid}\n`;
  },
  '/api/': (request) => `hello ${request.headers['x-user']}\n`,
};
createServer((request, response) => {
  const respond = paths[request.url];
  response.writeHead(respond ? 200 : 404).end(respond?.(request));
}).listen(Number(port), process.env.HOST ?? '127.0.0.1');
