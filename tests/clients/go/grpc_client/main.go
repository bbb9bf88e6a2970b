// grpc-go.
package main

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"moongate/clients/shared"
)

const path = "/test.Calls/"

func show(kind string, fields metadata.MD) {
	lines := []string{}
	for name, values := range fields {
		lines = append(lines, fmt.Sprintf("%s %s %q", kind, name, values))
	}
	sort.Strings(lines)
	for _, line := range lines {
		if !strings.Contains(line, " date ") {
			fmt.Println(line)
		}
	}
}

// outcome prints a status. Which side ends a call after its deadline is chance.
func outcome(err error) bool {
	late := status.Code(err) == codes.DeadlineExceeded
	if late {
		fmt.Println(status.Code(err))
	} else {
		fmt.Println(status.Code(err), status.Convert(err).Message())
	}
	return !late
}

func unary(method string, data []byte, prepare func(context.Context) (context.Context, context.CancelFunc)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, connection *grpc.ClientConn) {
		if prepare != nil {
			var cancel context.CancelFunc
			ctx, cancel = prepare(ctx)
			defer cancel()
		}
		var received []byte
		var initial, trailing metadata.MD
		err := connection.Invoke(ctx, path+method, &data, &received, grpc.Header(&initial), grpc.Trailer(&trailing))
		if err == nil {
			fmt.Println(shared.Digest(received))
		}
		if outcome(err) {
			show("initial", initial)
			show("trailing", trailing)
		}
	}
}

func stream(method string, messages ...string) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, connection *grpc.ClientConn) {
		description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
		call, err := connection.NewStream(ctx, description, path+method)
		for _, message := range messages {
			if err == nil {
				data := []byte(message)
				err = call.SendMsg(&data)
			}
		}
		if err == nil {
			err = call.CloseSend()
		}
		for err == nil {
			var data []byte
			if err = call.RecvMsg(&data); err == nil {
				fmt.Println(string(data))
			}
		}
		if err == io.EOF {
			err = nil
		}
		outcome(err)
		show("trailing", call.Trailer())
	}
}

func calling(function func(context.Context, *grpc.ClientConn)) func(string) error {
	return func(url string) error {
		scheme, address, _ := strings.Cut(url, "://")
		security := insecure.NewCredentials()
		if scheme == "https" {
			security = credentials.NewTLS(shared.ClientTLS())
		}
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(security),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(shared.Bytes{}), grpc.MaxCallRecvMsgSize(16*shared.MiB)))
		if err != nil {
			return err
		}
		defer connection.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		function(ctx, connection)
		return nil
	}
}

func main() {
	fields := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return metadata.AppendToOutgoingContext(ctx, "x-text", "value", "x-bytes-bin", "\x00\xff"), func() {}
	}
	deadline := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 300*time.Millisecond)
	}
	shared.Run(map[string]shared.Cases{"grpc": {
		"unary":         calling(unary("Echo", []byte("hello"), nil)),
		"metadata":      calling(unary("Metadata", nil, fields)),
		"large":         calling(unary("Echo", shared.Pattern(shared.MiB), nil)),
		"server_stream": calling(stream("Count", "5")),
		"client_stream": calling(stream("Sum", "1", "22", "333")),
		"bidi":          calling(stream("Chat", "message 0", "message 1", "message 2", "message 3", "message 4")),
		"error":         calling(unary("Fail", nil, nil)),
		"unimplemented": calling(unary("Missing", nil, nil)),
		"deadline":      calling(unary("Wait", nil, deadline)),
	}})
}
