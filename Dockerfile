# Two ways to the same image, a static binary on an empty file system:
#
#   docker build --target release .     compiles inside (needs to pull the Go image)
#   make static && docker build --target prebuilt --build-arg BINARY=bin/waxwing-linux-amd64 .
#
# `prebuilt` stands first, so that building it touches no other image.
FROM scratch AS prebuilt
ARG BINARY=bin/waxwing-linux-amd64
COPY ${BINARY} /waxwing
# A named volume takes over the owner and mode of the folder it covers.
COPY --chown=65532:65532 docker/empty /data
COPY --chown=65532:65532 docker/empty /pki
COPY --chown=65532:65532 docker/empty /tmp
USER 65532:65532
ENTRYPOINT ["/waxwing"]

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /waxwing ./cmd/waxwing

FROM scratch AS release
COPY --from=build /waxwing /waxwing
COPY --chown=65532:65532 docker/empty /data
COPY --chown=65532:65532 docker/empty /pki
COPY --chown=65532:65532 docker/empty /tmp
USER 65532:65532
ENTRYPOINT ["/waxwing"]
