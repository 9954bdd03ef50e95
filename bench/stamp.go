package bench

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
)

// stampBytes is the head of every payload:
//
//	0       8        12     13    16         24      32     36      40
//	| run   | stream | kind | 0 0 0 | number | due   | size | crc   | random bytes ...
//
// All big-endian. size is that of the whole payload, crc is the CRC-32C of all of it but these four bytes.
const stampBytes = 40

// kinds of payloads.
const (
	kindData   = 0
	kindMarker = 1 // the last one of a phase in its stream
)

// stamp is what a payload says of itself.
type stamp struct {
	run    uint64
	stream uint32
	kind   uint8
	number uint64
	due    int64 // nanoseconds since the run's epoch
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// put writes the head of body, whose rest is there already.
func (s *stamp) put(body []byte) {
	binary.BigEndian.PutUint64(body, s.run)
	binary.BigEndian.PutUint32(body[8:], s.stream)
	binary.BigEndian.PutUint32(body[12:], uint32(s.kind)<<24)
	binary.BigEndian.PutUint64(body[16:], s.number)
	binary.BigEndian.PutUint64(body[24:], uint64(s.due))
	binary.BigEndian.PutUint32(body[32:], uint32(len(body)))
	binary.BigEndian.PutUint32(body[36:], sumOf(body))
}

func sumOf(body []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, body[:36]), castagnoli, body[stampBytes:])
}

// readStamp reads it back; false = the bytes are not what was sent.
func readStamp(body []byte) (stamp, bool) {
	if len(body) < stampBytes || binary.BigEndian.Uint32(body[32:]) != uint32(len(body)) || binary.BigEndian.Uint32(body[36:]) != sumOf(body) {
		return stamp{}, false
	}
	return stamp{
		run: binary.BigEndian.Uint64(body), stream: binary.BigEndian.Uint32(body[8:]), kind: body[12],
		number: binary.BigEndian.Uint64(body[16:]), due: int64(binary.BigEndian.Uint64(body[24:])),
	}, true
}

// fillerBytes is how many random bytes there are beside the largest payload. Payloads are stretches of them from random
// places: nothing on the way can compress them, and they cost the client little.
const fillerBytes = 1 << 20

// filler makes payloads. It is for one goroutine.
type filler struct {
	rng    *rand.Rand
	sizes  SizeDist
	size   int
	random []byte
	body   []byte
}

func newFiller(seed, stream uint64, o *Options) *filler {
	f := &filler{rng: rand.New(rand.NewPCG(seed, stream)), sizes: o.SizeDist, size: o.Size}
	largest := f.sizes.max(o.Size)
	f.random, f.body = make([]byte, fillerBytes+largest), make([]byte, largest)
	source := rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), f.rng.Uint64())))
	source.Read(f.random) // never fails
	return f
}

// next is the next payload; it is valid until the one after.
func (f *filler) next(s *stamp) []byte {
	body := f.body[:f.sizes.draw(f.rng, f.size)]
	from := f.rng.IntN(fillerBytes)
	copy(body[stampBytes:], f.random[from:from+len(body)])
	s.put(body)
	return body
}
