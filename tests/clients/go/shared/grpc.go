package shared

// Bytes is a codec of gRPC whose messages are bytes, so that no code is generated.
type Bytes struct{}

// Marshal gives the bytes of a message.
func (Bytes) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

// Unmarshal sets a message.
func (Bytes) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte{}, data...)
	return nil
}

// Name is that of the default codec: it becomes the content type.
func (Bytes) Name() string { return "proto" }
