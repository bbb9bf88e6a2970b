// Program nethttp_client uses net/http: HTTP/1.1, and HTTP/2 with and without TLS.
package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"time"

	"moongate/clients/shared"
)

func client(protocols *http.Protocols) func() (func(string, shared.Request) (shared.Response, error), func()) {
	return func() (func(string, shared.Request) (shared.Response, error), func()) {
		transport := &http.Transport{
			Protocols:             protocols,
			TLSClientConfig:       shared.ClientTLS(),
			ExpectContinueTimeout: 8 * time.Second,
			DisableCompression:    true,
		}
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		call := func(url string, sent shared.Request) (shared.Response, error) {
			var informational []int
			trace := &httptrace.ClientTrace{
				Got100Continue: func() { informational = append(informational, 100) },
				Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
					if code != 100 {
						informational = append(informational, code)
					}
					return nil
				},
			}
			var body io.Reader
			if sent.Body != nil {
				body = bytes.NewReader(sent.Body)
			}
			if sent.Chunked {
				body = io.MultiReader(body)
			}
			request, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), sent.Method, url, body)
			if err != nil {
				return shared.Response{}, err
			}
			if sent.Expect {
				request.Header.Set("Expect", "100-continue")
			}
			response, err := client.Do(request)
			if err != nil {
				return shared.Response{}, err
			}
			defer response.Body.Close()
			received, err := io.ReadAll(response.Body)
			return shared.Response{
				Status:        response.Proto + " " + response.Status,
				Fields:        response.Header,
				Body:          received,
				Trailers:      response.Trailer,
				Informational: informational,
			}, err
		}
		return call, transport.CloseIdleConnections
	}
}

func main() {
	var http1, http2, h2c http.Protocols
	http1.SetHTTP1(true)
	http2.SetHTTP2(true)
	h2c.SetUnencryptedHTTP2(true)
	shared.Run(map[string]shared.Cases{
		"http1": shared.HTTPCases(client(&http1)),
		"http2": shared.HTTPCases(client(&http2)),
		"h2c":   shared.HTTPCases(client(&h2c)),
	})
}
