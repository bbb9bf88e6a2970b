package shared

import (
	"fmt"
	"os"
)

// Socket is an open WebSocket of a client library.
type Socket interface {
	Send(text bool, data string) error
	// Receive returns the next message, its type as the library names it, or how the WebSocket ended.
	Receive() (kind, data string, err error)
	// Close sends a Close frame and returns the end as the library reports it.
	Close(code int, reason string) (string, error)
	// SendFragments sends a text message in several frames, or returns false.
	SendFragments(parts ...string) (bool, error)
	// Ping returns the data of the pong, or false if the library has none.
	Ping(data string) (string, bool)
	// Describe tells what was negotiated.
	Describe() string
}

func exchange(socket Socket, text bool, data string) error {
	if err := socket.Send(text, data); err != nil {
		return err
	}
	kind, received, err := socket.Receive()
	if err != nil {
		return err
	}
	fmt.Println(kind, len(data), Same(data, received))
	return nil
}

func end(socket Socket, code int, reason string) error {
	seen, err := socket.Close(code, reason)
	fmt.Println("closed", seen)
	return err
}

// WebSocketCases are the cases over `open`.
func WebSocketCases(open func(url string, protocols ...string) (Socket, error)) Cases {
	with := func(path string, use func(Socket) error, protocols ...string) func(string) error {
		return func(url string) error {
			socket, err := open(url+path, protocols...)
			if err != nil {
				return err
			}
			return use(socket)
		}
	}
	ends := func(path string) func(string) error {
		return with(path, func(socket Socket) error {
			if err := socket.Send(true, "end"); err != nil {
				return err
			}
			_, _, err := socket.Receive()
			return err
		})
	}
	return Cases{
		"echo": with("/echo", func(socket Socket) error {
			bytes := make([]byte, 256)
			for i := range bytes {
				bytes[i] = byte(i)
			}
			messages := []struct {
				text bool
				data string
			}{{true, ""}, {true, "héllo wörld ☃"}, {false, string(bytes)}, {true, Text()}, {false, string(Pattern(MiB))}}
			for _, message := range messages {
				if err := exchange(socket, message.text, message.data); err != nil {
					return err
				}
			}
			return end(socket, 1000, "")
		}),
		"fragments": with("/fragments", func(socket Socket) error {
			sent, err := socket.SendFragments("one, ", "two, ", "three")
			if !sent {
				err = socket.Send(true, "one, two, three")
			}
			if err != nil {
				return err
			}
			kind, data, err := socket.Receive()
			if err != nil {
				return err
			}
			fmt.Println(kind, Content([]byte(data)))
			return end(socket, 1000, "")
		}),
		"subprotocol": with("/echo", func(socket Socket) error {
			fmt.Println(socket.Describe())
			if err := exchange(socket, true, "hello"); err != nil {
				return err
			}
			return end(socket, 1000, "")
		}, "chat.v1", "chat.v2"),
		"ping": with("/ping", func(socket Socket) error {
			if pong, ok := socket.Ping("from the client"); ok {
				fmt.Println("pong", pong)
			}
			if err := socket.Send(true, "go"); err != nil {
				return err
			}
			kind, data, err := socket.Receive()
			if err != nil {
				return err
			}
			fmt.Println(kind, Content([]byte(data)))
			return end(socket, 1000, "")
		}),
		"client_close": with("/echo", func(socket Socket) error {
			if err := exchange(socket, true, "hello"); err != nil {
				return err
			}
			return end(socket, 3001, "bye from the client")
		}),
		"server_close": ends("/close"),
		"lost_fin":     ends("/fin"),
		"lost_reset":   ends("/reset"),
		"client_lost": with("/echo", func(socket Socket) error {
			err := exchange(socket, true, "hello")
			if err == nil {
				os.Exit(0)
			}
			return err
		}),
		"refused": with("/refuse", func(Socket) error { return nil }),
	}
}
