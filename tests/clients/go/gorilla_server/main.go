// gorilla/websocket, its server.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"moongate/clients/shared"
)

var upgrader = websocket.Upgrader{
	Subprotocols:      []string{"chat.v2"},
	EnableCompression: true,
	CheckOrigin:       func(*http.Request) bool { return true },
}

func end(connection *websocket.Conn, reset bool) {
	transport := connection.NetConn()
	if secure, ok := transport.(interface{ NetConn() net.Conn }); ok {
		transport = secure.NetConn()
	}
	if reset {
		transport.(*net.TCPConn).SetLinger(0)
	}
	transport.Close()
}

func handle(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	token, action := parts[1], parts[2]
	if action == "refuse" {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "sign in first\n")
		return
	}
	connection, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer connection.Close()
	fmt.Println(token, "open")
	for {
		kind, data, err := connection.ReadMessage()
		if err != nil {
			// The text of an error of the network has addresses, and varies with the way of the end.
			if closed, ok := err.(*websocket.CloseError); ok {
				fmt.Println(token, "end", closed)
			} else {
				fmt.Println(token, "end without Close")
			}
			return
		}
		switch action {
		case "close":
			message := websocket.FormatCloseMessage(4001, "closed by the server")
			connection.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second))
		case "fin", "reset":
			end(connection, action == "reset")
		case "ping":
			connection.SetPongHandler(func(data string) error {
				return connection.WriteMessage(websocket.TextMessage, []byte("pong "+data))
			})
			connection.WriteControl(websocket.PingMessage, []byte("from the server"), time.Now().Add(time.Second))
		case "fragments":
			writer, _ := connection.NextWriter(kind)
			writer.Write(data[:5])
			writer.Write(data[5:])
			writer.Close()
		default:
			connection.WriteMessage(kind, data)
		}
	}
}

func main() {
	log.SetOutput(io.Discard)
	plain, plainPort := shared.Listen(false)
	secure, securePort := shared.Listen(true)
	fmt.Printf("listening plain=%d tls=%d\n", plainPort, securePort)
	go http.Serve(plain, http.HandlerFunc(handle))
	panic(http.Serve(secure, http.HandlerFunc(handle)))
}
