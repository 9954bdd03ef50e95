package powercut

import (
	"errors"
	"testing"
)

// record is one that a reader got.
type record struct {
	partition uint32
	offset    int64
	body      string
	publisher string
}

// TestExpectation has partition 1 publish a, b, c, of which a and b were acknowledged.
func TestExpectation(t *testing.T) {
	for _, c := range []struct {
		name string
		got  []record
		lost int64
		fine bool
	}{
		{name: "all", got: []record{{1, 0, "a", "p"}, {1, 1, "b", "p"}, {1, 2, "c", "p"}}, fine: true},
		{name: "what was acknowledged", got: []record{{1, 0, "a", "p"}, {1, 1, "b", "p"}}, fine: true},
		{name: "nothing", lost: 2},
		{name: "the last acknowledged is lost", got: []record{{1, 0, "a", "p"}}, lost: 1},
		{name: "a hole", got: []record{{1, 0, "a", "p"}, {1, 2, "c", "p"}}},
		{name: "begins late", got: []record{{1, 1, "b", "p"}}},
		{name: "reordered", got: []record{{1, 0, "b", "p"}, {1, 1, "a", "p"}}},
		{name: "twice", got: []record{{1, 0, "a", "p"}, {1, 1, "a", "p"}, {1, 2, "b", "p"}}},
		{name: "the same offset twice", got: []record{{1, 0, "a", "p"}, {1, 0, "a", "p"}}},
		{name: "wrong bytes", got: []record{{1, 0, "a", "p"}, {1, 1, "B", "p"}}},
		{name: "wrong publisher", got: []record{{1, 0, "a", "q"}}},
		{name: "wrong partition", got: []record{{0, 0, "a", "p"}}},
		{name: "no such partition", got: []record{{partitions, 0, "a", "p"}}},
		{name: "more than was published", got: []record{{1, 0, "a", "p"}, {1, 1, "b", "p"}, {1, 2, "c", "p"}, {1, 3, "d", "p"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var loss *LossError
			err := look(t, c.got)
			if c.fine && err != nil || !c.fine && (!errors.As(err, &loss) || loss.Lost != c.lost) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// look compares what was got with the journal.
func look(t *testing.T, got []record) error {
	t.Helper()
	var j journal
	for _, body := range []string{"a", "b", "c"} {
		j.published(1, []byte(body))
	}
	for offset := range int64(2) {
		if err := j.acknowledged(1, offset); err != nil {
			t.Fatal(err)
		}
	}
	e := j.expect()
	j.published(1, []byte("d")) // later than the cut
	for _, r := range got {
		if err := e.see(r.partition, r.offset, []byte(r.body), r.publisher, "p"); err != nil {
			return err
		}
	}
	return e.done()
}

func TestAcknowledgedAtTheWrongOffset(t *testing.T) {
	var j journal
	var loss *LossError
	if err := j.acknowledged(0, 1); !errors.As(err, &loss) {
		t.Errorf("got %v", err)
	}
}

func TestMore(t *testing.T) {
	var j journal
	if err := j.acknowledged(0, 0); err != nil {
		t.Fatal(err)
	}
	reached := j.more(2)
	for partition := range uint32(2) {
		select {
		case <-reached:
			t.Fatalf("reached after %d", partition)
		default:
		}
		if err := j.acknowledged(partition, int64(1-partition)); err != nil {
			t.Fatal(err)
		}
	}
	<-reached
}
