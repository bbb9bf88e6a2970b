// A backend that echoes short WebSocket messages, and serves an empty page. It shares no code with the gateway.

import { createHash } from "node:crypto";
import { createServer } from "node:http";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

export class EchoBackend {
  #sockets = new Set();
  #server = createServer((request, response) => response.setHeader("content-type", "text/html").end("<!doctype html><title>echo</title>"));

  static async start() {
    const backend = new EchoBackend();
    backend.#server.on("upgrade", (request, socket) => backend.#accept(request, socket));
    await new Promise((done) => backend.#server.listen(0, "127.0.0.1", done));
    backend.address = `127.0.0.1:${backend.#server.address().port}`;
    return backend;
  }

  #accept(request, socket) {
    const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + GUID).digest("base64");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    this.#sockets.add(socket);
    let bytes = Buffer.alloc(0);
    socket.on("data", (more) => {
      bytes = Buffer.concat([bytes, more]);
      // A frame of a client: two bytes, a key of four, and up to 125 bytes (RFC 6455 §5.2).
      while (bytes.length >= 6 && bytes.length >= 6 + (bytes[1] & 0x7f)) {
        const length = bytes[1] & 0x7f;
        const key = bytes.subarray(2, 6);
        const payload = Buffer.from(bytes.subarray(6, 6 + length).map((byte, at) => byte ^ key[at & 3]));
        const opcode = bytes[0] & 0x0f;
        bytes = bytes.subarray(6 + length);
        // A ping gets its pong; text and Close come back as they are.
        socket.write(Buffer.concat([Buffer.from([0x80 | (opcode === 9 ? 10 : opcode), length]), payload]));
        if (opcode === 8) socket.end();
      }
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#sockets.delete(socket));
  }

  end() {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#server.closeAllConnections();
  }
}
