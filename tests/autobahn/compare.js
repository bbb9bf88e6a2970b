// Compares two reports of the suite case by case: result, result of the close, and the close code. On the route
// `messages` the gateway inspects messages: it offers no compression, and it may be stricter than the echo server.
const { readFileSync } = require('fs');

const read = (file) => Object.values(JSON.parse(readFileSync(file)))[0];
const verdict = (test) => (test ? `${test.behavior}, close ${test.behaviorClose} ${test.remoteCloseCode}` : 'not run');

const [name, directFile, throughFile] = process.argv.slice(2);
const [direct, through] = [read(directFile), read(throughFile)];
const cases = [...new Set([...Object.keys(direct), ...Object.keys(through)])];
const expected = (id) => {
  if (name !== 'messages') return false;
  if (/^1[23]\./.test(id)) return through[id]?.behavior === 'UNIMPLEMENTED';
  return direct[id]?.behavior === 'NON-STRICT' && through[id]?.behavior === 'OK';
};
const differing = cases.filter((id) => verdict(direct[id]) !== verdict(through[id]) && !expected(id));
for (const id of differing) {
  console.log(`  ${id}: without Moongate ${verdict(direct[id])}; through it ${verdict(through[id])}`);
}
console.log(`${name}: ${cases.length} cases, ${differing.length} with another verdict`);
process.exitCode = differing.length > 0 || cases.length === 0 ? 1 : 0;
