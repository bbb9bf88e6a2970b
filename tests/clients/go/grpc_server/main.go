// grpc-go's server.
package main

import (
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"moongate/clients/shared"
)

// handle serves every method, as a stream in both directions.
func handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	receive := func() ([]byte, error) {
		var data []byte
		err := stream.RecvMsg(&data)
		return data, err
	}
	send := func(data []byte) error { return stream.SendMsg(&data) }
	switch strings.TrimPrefix(method, "/test.Calls/") {
	case "Echo":
		data, err := receive()
		if err != nil {
			return err
		}
		stream.SendHeader(metadata.Pairs("x-initial", "first"))
		stream.SetTrailer(metadata.Pairs("x-trailing", "last"))
		return send(data)
	case "Metadata":
		fields, _ := metadata.FromIncomingContext(stream.Context())
		trailers := metadata.MD{}
		for name, values := range fields {
			if strings.HasPrefix(name, "x-") && !strings.Contains(name, "forward") {
				trailers[name] = values
			}
		}
		stream.SetTrailer(trailers)
		return send([]byte("seen"))
	case "Fail":
		stream.SetTrailer(metadata.Pairs("x-trailing", "last", "x-bytes-bin", "\x00\xff"))
		return status.Error(codes.NotFound, "no such thing: ☃ 100%")
	case "Wait":
		<-stream.Context().Done()
		return status.FromContextError(stream.Context().Err()).Err()
	case "Count":
		data, err := receive()
		if err != nil {
			return err
		}
		var count int
		fmt.Sscan(string(data), &count)
		for i := range count {
			if err := send(fmt.Append(nil, i)); err != nil {
				return err
			}
		}
		return nil
	case "Sum":
		total := 0
		for {
			data, err := receive()
			if err == io.EOF {
				return send(fmt.Append(nil, total))
			}
			if err != nil {
				return err
			}
			var number int
			fmt.Sscan(string(data), &number)
			total += number
		}
	case "Chat":
		for {
			data, err := receive()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if err := send(append([]byte("re: "), data...)); err != nil {
				return err
			}
		}
	}
	return status.Error(codes.Unimplemented, "unknown method")
}

func main() {
	plain, plainPort := shared.Listen(false)
	secure, securePort := shared.Listen(true, "h2")
	server := func() *grpc.Server {
		return grpc.NewServer(grpc.ForceServerCodec(shared.Bytes{}), grpc.UnknownServiceHandler(handle), grpc.MaxRecvMsgSize(16*shared.MiB))
	}
	fmt.Printf("listening plain=%d tls=%d h2c=%d\n", plainPort, securePort, plainPort)
	go server().Serve(plain)
	panic(server().Serve(secure))
}
