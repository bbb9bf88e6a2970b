// What the programs of Node's libraries share: test data, TLS, the cases of HTTP, and the form of results.
import { readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';

export const MIB = 1 << 20;
export const TEXT = '0123456789abcdef'.repeat(MIB / 16);
export const MESSAGES = () => ['', 'héllo wörld ☃', pattern(256).map((_, i) => i), TEXT, pattern(MIB)];

export const ca = () => readFileSync(process.env.CA);
export const identity = () => ({ cert: readFileSync(process.env.CERT), key: readFileSync(process.env.KEY) });

// Bytes whose order is not that of a counter; they repeat every 64 KiB.
export const pattern = (size) => {
  const block = Uint8Array.from({ length: Math.min(size, 65536) }, (_, i) => (i * 31 + (i >> 8)) & 255);
  return Buffer.alloc(size, block);
};
export const digest = (data) => `${data.length} bytes ${crc32(data).toString(16).padStart(8, '0')}`;
// A short body as text, a long one as a digest.
const content = (body) => (body.length < 100 ? `${body}`.trimEnd() : digest(body));
export const describe = (error) => [error.name, error.code, error.message, error.cause && describe(error.cause)].filter(Boolean).join(' ');

// Pieces of a body without a length.
export function* pieces(body) {
  for (let start = 0; start < body.length; start += 16384) yield body.subarray(start, start + 16384);
}

// Runs `PROGRAM KIND URL CASE...`. Each result follows a line with the case; `{}` in the URL becomes the case.
export const run = async (kinds) => {
  const [kind, url, ...cases] = process.argv.slice(2);
  for (const name of cases) {
    console.log(`== ${name}`);
    const program = kinds[kind][name] ?? (() => console.log('unsupported'));
    try {
      await program(url.replace('{}', name));
    } catch (error) {
      console.log(`error ${describe(error)}`);
    }
  }
  // Some libraries keep sockets open.
  process.exit(0);
};

// Names and values, as in Node's rawHeaders.
export const pairs = (raw) => Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i], raw[2 * i + 1]]);

const UNCOMPARED = ['date', 'connection', 'keep-alive'];
const order = ([a], [b]) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1);

export const show = ({ status, fields, body, trailers = [], informational = [] }) => {
  for (const code of informational) console.log(`informational ${code}`);
  console.log(`${status}`);
  for (const [name, value] of [...fields].sort(order)) {
    if (!UNCOMPARED.includes(name.toLowerCase())) console.log(`${name}: ${value}`);
  }
  console.log(`body ${content(body)}`);
  for (const [name, value] of trailers) console.log(`trailer ${name}: ${value}`);
};

// The cases over `open(url)`, which gives `{ call({ method, path, body, chunked, fields }), close() }`.
export const httpCases = (open, { trailers = false, expect = true } = {}) => {
  const calls = (...requests) => async (url) => {
    const client = await open(url);
    for (const { body, ...request } of requests) show(await client.call({ ...request, body: body?.() }));
    await client.close?.();
  };
  const small = () => Buffer.from('a small body');
  const middle = () => pattern(65536);
  const large = () => pattern(MIB);
  const huge = () => pattern(8 * MIB);
  const cases = {
    get: calls({ method: 'GET', path: '/get' }),
    head: calls({ method: 'HEAD', path: '/get' }),
    post_length: calls({ method: 'POST', path: '/echo', body: small }),
    post_chunked: calls({ method: 'POST', path: '/echo', body: small, chunked: true }),
    keep_alive: calls(
      { method: 'GET', path: '/get' },
      { method: 'POST', path: '/echo', body: small },
      { method: 'HEAD', path: '/get' },
      { method: 'GET', path: '/chunked' },
    ),
    upload: calls({ method: 'POST', path: '/echo', body: large }),
    upload_chunked: calls({ method: 'POST', path: '/echo', body: large, chunked: true }),
    download: calls({ method: 'GET', path: '/big' }, { method: 'GET', path: '/chunked' }),
    early_small: calls({ method: 'POST', path: '/early', body: middle }),
    early_large: calls({ method: 'POST', path: '/early', body: huge }),
    limited_small: calls({ method: 'POST', path: '/limited', body: middle }),
    limited_large: calls({ method: 'POST', path: '/limited', body: huge }),
  };
  if (expect) cases.expect = calls({ method: 'POST', path: '/echo', body: middle, fields: { expect: '100-continue' } });
  if (trailers) cases.trailers = calls({ method: 'GET', path: '/trailers' });
  return cases;
};
