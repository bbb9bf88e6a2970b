// fasthttp.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"moongate/clients/shared"
)

func open() (func(string, shared.Request) (shared.Response, error), func()) {
	client := &fasthttp.Client{TLSConfig: shared.ClientTLS(), ReadTimeout: 10 * time.Second, MaxIdemponentCallAttempts: 1}
	call := func(url string, sent shared.Request) (shared.Response, error) {
		request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		request.SetRequestURI(url)
		request.Header.SetMethod(sent.Method)
		if sent.Chunked {
			request.SetBodyStream(io.MultiReader(bytes.NewReader(sent.Body)), -1)
		} else if sent.Body != nil {
			request.SetBody(sent.Body)
		}
		if sent.Expect {
			request.Header.Set("Expect", "100-continue")
		}
		if err := client.Do(request, response); err != nil {
			return shared.Response{}, err
		}
		fields := http.Header{}
		for name, value := range response.Header.All() {
			fields[string(name)] = append(fields[string(name)], string(value))
		}
		status := fmt.Sprintf("%s %d", response.Header.Protocol(), response.StatusCode())
		return shared.Response{Status: status, Fields: fields, Body: response.Body()}, nil
	}
	return call, client.CloseIdleConnections
}

func main() {
	cases := shared.HTTPCases(open)
	// Trailers are fields of its response.
	delete(cases, "trailers")
	shared.Run(map[string]shared.Cases{"http1": cases})
}
