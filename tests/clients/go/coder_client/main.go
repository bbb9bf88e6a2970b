// coder/websocket.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"moongate/clients/shared"
)

type socket struct{ *websocket.Conn }

// Until the end of the process.
var limit, cancel = context.WithTimeout(context.Background(), 5*time.Minute)

func (s socket) Send(text bool, data string) error {
	kind := websocket.MessageBinary
	if text {
		kind = websocket.MessageText
	}
	return s.Write(limit, kind, []byte(data))
}

func (s socket) Receive() (string, string, error) {
	kind, data, err := s.Read(limit)
	return kind.String(), string(data), err
}

func (s socket) Close(code int, reason string) (string, error) {
	return fmt.Sprint(s.Conn.Close(websocket.StatusCode(code), reason)), nil
}

func (s socket) SendFragments(parts ...string) (bool, error) {
	writer, err := s.Writer(limit, websocket.MessageText)
	if err != nil {
		return true, err
	}
	for _, part := range parts {
		if _, err := io.WriteString(writer, part); err != nil {
			return true, err
		}
	}
	return true, writer.Close()
}

func (s socket) Ping(data string) (string, bool) {
	// A ping needs a reader.
	received := make(chan string, 1)
	go func() {
		_, data, err := s.Receive()
		received <- fmt.Sprint(data, err)
	}()
	err := s.Conn.Ping(limit)
	s.Send(true, "go")
	return fmt.Sprint(err, " ", <-received), true
}

func (s socket) Describe() string { return "subprotocol " + s.Subprotocol() }

func open(url string, protocols ...string) (shared.Socket, error) {
	transport := &http.Transport{TLSClientConfig: shared.ClientTLS()}
	connection, response, err := websocket.Dial(limit, url, &websocket.DialOptions{
		HTTPClient:      &http.Client{Transport: transport},
		Subprotocols:    protocols,
		CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil && response != nil && response.Body != nil {
		body, _ := io.ReadAll(response.Body)
		return nil, fmt.Errorf("%w: %s %s %s", err, response.Status, response.Header.Get("WWW-Authenticate"), body)
	}
	if err != nil {
		return nil, err
	}
	connection.SetReadLimit(-1)
	return socket{connection}, nil
}

func main() {
	defer cancel()
	shared.Run(map[string]shared.Cases{"websocket": shared.WebSocketCases(open)})
}
