// gorilla/websocket.
package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"moongate/clients/shared"
)

type socket struct{ *websocket.Conn }

func (s socket) Send(text bool, data string) error {
	kind := websocket.BinaryMessage
	if text {
		kind = websocket.TextMessage
	}
	return s.WriteMessage(kind, []byte(data))
}

func (s socket) Receive() (string, string, error) {
	kind, data, err := s.ReadMessage()
	return map[int]string{websocket.TextMessage: "text", websocket.BinaryMessage: "binary"}[kind], string(data), err
}

func (s socket) Close(code int, reason string) (string, error) {
	message := websocket.FormatCloseMessage(code, reason)
	if err := s.WriteControl(websocket.CloseMessage, message, time.Now().Add(10*time.Second)); err != nil {
		return "", err
	}
	_, _, err := s.Receive()
	// After Close the stream must end.
	rest, after := s.NetConn().Read(make([]byte, 1))
	return fmt.Sprintf("%v, then %d %v", err, rest, after), nil
}

func (s socket) SendFragments(parts ...string) (bool, error) {
	writer, err := s.NextWriter(websocket.TextMessage)
	if err != nil {
		return true, err
	}
	for _, part := range parts {
		// A full buffer becomes a frame.
		if _, err := io.WriteString(writer, strings.Repeat(part, 2000)); err != nil {
			return true, err
		}
	}
	return true, writer.Close()
}

func (s socket) Ping(data string) (string, bool) {
	pong := make(chan string, 1)
	s.SetPongHandler(func(data string) error {
		pong <- data
		return nil
	})
	if s.WriteControl(websocket.PingMessage, []byte(data), time.Now().Add(10*time.Second)) != nil {
		return "", false
	}
	// Control frames are handled while reading.
	go func() { s.WriteMessage(websocket.TextMessage, []byte("go")) }()
	s.ReadMessage()
	return <-pong, true
}

func (s socket) Describe() string { return "subprotocol " + s.Subprotocol() }

func open(url string, protocols ...string) (shared.Socket, error) {
	dialer := websocket.Dialer{TLSClientConfig: shared.ClientTLS(), Subprotocols: protocols, EnableCompression: len(protocols) > 0}
	connection, response, err := dialer.Dial(url, nil)
	if err != nil && response != nil {
		body, _ := io.ReadAll(response.Body)
		return nil, fmt.Errorf("%w: %s %s %s", err, response.Status, response.Header.Get("WWW-Authenticate"), body)
	}
	if err != nil {
		return nil, err
	}
	return socket{connection}, nil
}

func main() {
	shared.Run(map[string]shared.Cases{"websocket": shared.WebSocketCases(open)})
}
