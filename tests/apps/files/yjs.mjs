// Two editors of one document that are connected only through the gateway. Arguments: the URL and the document.
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'
import WebSocket from 'ws'

const [url, room] = process.argv.slice(1)
setTimeout(() => fail('not within 60 s'), 60_000).unref()

function fail (what) {
  console.error(what)
  process.exit(1)
}

function editor (name) {
  const doc = new Y.Doc()
  // Disables the channel between editors of one process.
  const provider = new WebsocketProvider(url, room, doc, { WebSocketPolyfill: WebSocket, disableBc: true })
  provider.awareness.setLocalStateField('user', { name })
  return { name, doc, provider, text: doc.getText('text') }
}

// Polls at every event of the document or the provider until the result is true.
function until (emitter, event, ask) {
  return new Promise((resolve) => {
    const again = () => {
      if (!ask()) return
      emitter.off(event, again)
      resolve()
    }
    emitter.on(event, again)
    again()
  })
}

const shows = (editor, wanted) => until(editor.doc, 'update', () => editor.text.toString() === wanted)
const knows = (editor, names) => until(editor.provider.awareness, 'change', () => {
  const users = [...editor.provider.awareness.getStates().values()].map((state) => state.user?.name)
  return names.every((name) => users.includes(name))
})

const ada = editor('ada')
await until(ada.provider, 'sync', () => ada.provider.synced)
ada.text.insert(0, 'moon')
const bob = editor('bob')
await shows(bob, 'moon')
bob.text.insert(4, 'gate')
await shows(ada, 'moongate')
await Promise.all([knows(ada, ['ada', 'bob']), knows(bob, ['ada', 'bob'])])

// One update of 3 MiB, like a pasted picture.
const picture = new Uint8Array(3 << 20).fill(7)
ada.doc.getMap('files').set('picture', picture)
await until(bob.doc, 'update', () => bob.doc.getMap('files').get('picture')?.length === picture.length)

// Concurrent edits converge to the same text.
ada.text.insert(0, 'a'.repeat(1000))
bob.text.insert(bob.text.length, 'b'.repeat(1000))
const wanted = 'a'.repeat(1000) + 'moongate' + 'b'.repeat(1000)
await Promise.all([shows(ada, wanted), shows(bob, wanted)])

console.log('both see ' + ada.text.toString().replace(/a{1000}|b{1000}/g, ''))
process.exit(0)
