// gobwas/ws.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"moongate/clients/shared"
)

type socket struct {
	net.Conn
	handshake ws.Handshake
}

func (s socket) Send(text bool, data string) error {
	kind := ws.OpBinary
	if text {
		kind = ws.OpText
	}
	return wsutil.WriteClientMessage(s.Conn, kind, []byte(data))
}

func (s socket) Receive() (string, string, error) {
	data, kind, err := wsutil.ReadServerData(s.Conn)
	return map[ws.OpCode]string{ws.OpText: "text", ws.OpBinary: "binary"}[kind], string(data), err
}

func (s socket) Close(code int, reason string) (string, error) {
	frame := ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(code), reason)))
	if err := ws.WriteFrame(s.Conn, frame); err != nil {
		return "", err
	}
	_, _, err := s.Receive()
	rest, after := s.Read(make([]byte, 1))
	return fmt.Sprintf("%v, then %d %v", err, rest, after), nil
}

func (s socket) SendFragments(parts ...string) (bool, error) {
	for i, part := range parts {
		kind := ws.OpContinuation
		if i == 0 {
			kind = ws.OpText
		}
		if err := ws.WriteFrame(s.Conn, ws.MaskFrame(ws.NewFrame(kind, i == len(parts)-1, []byte(part)))); err != nil {
			return true, err
		}
	}
	return true, nil
}

func (s socket) Ping(data string) (string, bool) {
	if ws.WriteFrame(s.Conn, ws.MaskFrame(ws.NewPingFrame([]byte(data)))) != nil {
		return "", false
	}
	frame, err := ws.ReadFrame(s.Conn)
	return fmt.Sprint(frame.Header.OpCode == ws.OpPong, " ", string(frame.Payload), " ", err), true
}

func (s socket) Describe() string { return "subprotocol " + s.handshake.Protocol }

func open(url string, protocols ...string) (shared.Socket, error) {
	var refusal string
	dialer := ws.Dialer{
		Timeout:   10 * time.Second,
		TLSConfig: shared.ClientTLS(),
		Protocols: protocols,
		OnStatusError: func(status int, reason []byte, response io.Reader) {
			head, _ := io.ReadAll(io.LimitReader(response, 12))
			refusal = fmt.Sprintf("%d %s %q", status, reason, head)
		},
	}
	connection, _, handshake, err := dialer.Dial(context.Background(), url)
	if err != nil {
		return nil, errors.Join(err, errors.New(refusal))
	}
	return socket{connection, handshake}, nil
}

func main() {
	shared.Run(map[string]shared.Cases{"websocket": shared.WebSocketCases(open)})
}
