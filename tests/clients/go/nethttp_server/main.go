// net/http's server: HTTP/1.1, and HTTP/2 with and without TLS.
package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"net"
	"net/http"
	"strings"

	"moongate/clients/shared"
)

func respond(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"abc"`)
		w.Header()["X-Case-OF-Names"] = []string{"kept"}
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header().Set("Content-Length", "6")
		respond(w, 200, "hello\n")
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		framing := strings.Join(r.TransferEncoding, ",")
		if framing == "" {
			framing = fmt.Sprint(r.ContentLength)
		}
		respond(w, 200, fmt.Sprintf("%s %d %08x framing %s\n", r.Method, len(body), crc32.ChecksumIEEE(body), framing))
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(shared.MiB))
		respond(w, 200, string(shared.Pattern(shared.MiB)))
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
		respond(w, 200, string(shared.Pattern(200_000)))
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Checksum")
		respond(w, 200, "with trailers\n")
		w.Header().Set("X-Checksum", "cafe")
	})
	early := func(w http.ResponseWriter, r *http.Request) { respond(w, 413, "too large\n") }
	mux.HandleFunc("/early", early)
	mux.HandleFunc("/limited", early)
	return mux
}

func main() {
	log.SetOutput(io.Discard)
	server := func(protocols http.Protocols) *http.Server {
		return &http.Server{Handler: handler(), Protocols: &protocols}
	}
	var both, plain http.Protocols
	both.SetHTTP1(true)
	both.SetHTTP2(true)
	plain.SetHTTP1(true)
	plain.SetUnencryptedHTTP2(true)
	open, openPort := shared.Listen(false)
	secure, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server(plain).Serve(open)
	fmt.Printf("listening plain=%d tls=%d h2c=%d\n", openPort, secure.Addr().(*net.TCPAddr).Port, openPort)
	panic(server(both).ServeTLS(secure, shared.Environment("CERT"), shared.Environment("KEY")))
}
