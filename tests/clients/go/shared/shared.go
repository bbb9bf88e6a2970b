// Package shared has what the programs of Go's libraries share: test data, TLS, the cases of HTTP, and the form of results.
package shared

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"os"
	"sort"
	"strings"
)

// MiB is the size of long messages and bodies.
const MiB = 1 << 20

// Pattern returns bytes whose order is not that of a counter.
func Pattern(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i*31 + i>>8)
	}
	return data
}

// Text returns a long text.
func Text() string { return strings.Repeat("0123456789abcdef", MiB/16) }

// Digest describes long data.
func Digest(data []byte) string {
	return fmt.Sprintf("%d bytes %08x", len(data), crc32.ChecksumIEEE(data))
}

// Content returns a short body as text, a long one as a digest.
func Content(body []byte) string {
	if len(body) < 100 {
		return strings.TrimRight(string(body), "\n")
	}
	return Digest(body)
}

// Same returns whether a message is the one that was sent.
func Same(sent, received string) string {
	if sent == received {
		return "same"
	}
	return "different"
}

// ClientTLS trusts the test CA.
func ClientTLS(protocols ...string) *tls.Config {
	pem, err := os.ReadFile(Environment("CA"))
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, NextProtos: protocols}
}

// Listen opens a port, with or without TLS.
func Listen(secure bool, protocols ...string) (net.Listener, int) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if secure {
		certificate, err := tls.LoadX509KeyPair(Environment("CERT"), os.Getenv("KEY"))
		if err != nil {
			panic(err)
		}
		config := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: protocols}
		listener = tls.NewListener(listener, config)
	}
	return listener, port
}

// Cases are the cases of a kind.
type Cases map[string]func(url string) error

// Run runs `PROGRAM KIND URL CASE...`. Each result follows a line with the case; `{}` in the URL becomes the case.
func Run(kinds map[string]Cases) {
	cases := kinds[os.Args[1]]
	for _, name := range os.Args[3:] {
		fmt.Println("==", name)
		run, ok := cases[name]
		if !ok {
			fmt.Println("unsupported")
			continue
		}
		if err := run(strings.Replace(os.Args[2], "{}", name, 1)); err != nil {
			fmt.Printf("error %v\n", err)
		}
	}
}

// Response is what a client received.
type Response struct {
	Status        string
	Fields        http.Header
	Body          []byte
	Trailers      http.Header
	Informational []int
}

// Request is what a client sends. Body is nil if there is none.
type Request struct {
	Method, Path string
	Body         []byte
	Chunked      bool
	Expect       bool
}

func show(response Response) {
	for _, code := range response.Informational {
		fmt.Println("informational", code)
	}
	fmt.Println(response.Status)
	lines := []string{}
	for name, values := range response.Fields {
		switch strings.ToLower(name) {
		case "date", "connection", "keep-alive":
			continue
		}
		for _, value := range values {
			lines = append(lines, fmt.Sprintf("%s: %s", name, value))
		}
	}
	sort.Strings(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
	fmt.Println("body", Content(response.Body))
	for name, values := range response.Trailers {
		fmt.Printf("trailer %s: %s\n", name, strings.Join(values, ", "))
	}
}

// HTTPCases are the cases over a client: `open` returns a function that calls a URL, and one that closes the client.
func HTTPCases(open func() (call func(url string, request Request) (Response, error), close func())) Cases {
	calls := func(requests ...func() Request) func(string) error {
		return func(url string) error {
			call, closeClient := open()
			defer closeClient()
			for _, request := range requests {
				made := request()
				response, err := call(url+made.Path, made)
				if err != nil {
					return err
				}
				show(response)
			}
			return nil
		}
	}
	get := func(method, path string) func() Request {
		return func() Request { return Request{Method: method, Path: path} }
	}
	post := func(path string, size int, chunked, expect bool) func() Request {
		return func() Request {
			body := []byte("a small body")
			if size > 0 {
				body = Pattern(size)
			}
			return Request{Method: "POST", Path: path, Body: body, Chunked: chunked, Expect: expect}
		}
	}
	return Cases{
		"get":            calls(get("GET", "/get")),
		"head":           calls(get("HEAD", "/get")),
		"post_length":    calls(post("/echo", 0, false, false)),
		"post_chunked":   calls(post("/echo", 0, true, false)),
		"keep_alive":     calls(get("GET", "/get"), post("/echo", 0, false, false), get("HEAD", "/get"), get("GET", "/chunked")),
		"expect":         calls(post("/echo", 65536, false, true)),
		"upload":         calls(post("/echo", MiB, false, false)),
		"upload_chunked": calls(post("/echo", MiB, true, false)),
		"download":       calls(get("GET", "/big"), get("GET", "/chunked")),
		"early_small":    calls(post("/early", 65536, false, false)),
		"early_large":    calls(post("/early", 8*MiB, false, false)),
		"limited_small":  calls(post("/limited", 65536, false, false)),
		"limited_large":  calls(post("/limited", 8*MiB, false, false)),
		"trailers":       calls(get("GET", "/trailers")),
	}
}

// Environment returns a variable of the environment, which must be set.
func Environment(name string) string {
	value, ok := os.LookupEnv(name)
	if !ok {
		panic(name + " is not set")
	}
	return value
}
