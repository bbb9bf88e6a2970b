#!/bin/sh
# A CA, a certificate of the gateway and one of a client, for a day: certs.sh FOLDER
set -eu
mkdir -p "$1"
cd "$1"

# key NAME, and then its request with a subject.
request() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
}
# sign NAME EXTENSIONS: the certificate of a request.
sign() {
    printf '%s\n' "$2" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile "$1.ext" -out "$1.pem" 2>/dev/null
}

request ca "/CN=Example CA"
openssl req -x509 -key ca.key -subj "/CN=Example CA" -days 1 -out ca.pem
request site "/CN=localhost"
sign site "subjectAltName=DNS:localhost,IP:127.0.0.1"
request alice "/O=Example/CN=alice"
sign alice "extendedKeyUsage=clientAuth"
