package history_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/history"
)

const partition = "orders/0"

// as is who a client is.
func as(client string) string { return "spiffe://test/client/" + client }

// appended is an append that was acknowledged.
func appended(client string, number int, call, ret, offset int64) history.Op {
	return history.Op{Client: client, Kind: history.Append, Partition: partition, Call: call, Return: ret, Outcome: history.OK, Number: number, Value: fmt.Sprintf("%s%d", client, number), Offset: offset}
}

// ended is an append that was not acknowledged.
func ended(client string, number int, call, ret int64, how history.Outcome) history.Op {
	o := appended(client, number, call, ret, 0)
	o.Outcome, o.Error = how, "the test says so"
	return o
}

// logOf is a partition with values like "a0", as it is read back.
func logOf(values ...string) (log []history.Record) {
	for i, v := range values {
		log = append(log, history.Record{Offset: int64(i), Value: v, Publisher: as(v[:1])})
	}
	return log
}

// readBy is a read from an offset by a client that has seen the partition end at least there.
func readBy(client string, call, ret, from, since, atLeast int64, records []history.Record) history.Op {
	return history.Op{Client: client, Kind: history.Read, Partition: partition, Call: call, Return: ret, Outcome: history.OK, Offset: from, Since: since, AtLeast: atLeast, Records: records, End: from + int64(len(records))}
}

func tailBy(client string, call, ret, end int64) history.Op {
	return history.Op{Client: client, Kind: history.Tail, Partition: partition, Call: call, Return: ret, Outcome: history.OK, End: end}
}

// good is a history of two clients without a fault: appends that overlap, one that is unknown and happened late, one that is unknown
// and never happened, one that was rejected, a read that lags, and tails.
func good() ([]history.Op, []history.Record) {
	log := logOf("a0", "b0", "a1", "b1", "a3", "b2", "a4")
	return []history.Op{
		appended("a", 0, 0, 10, 0),
		appended("b", 0, 5, 30, 1),
		appended("a", 1, 11, 20, 2),
		readBy("a", 21, 25, 1, 11, 3, slices.Clone(log[1:3])),
		tailBy("b", 31, 35, 3),
		ended("b", 1, 36, 40, history.Unknown), // happens at some time
		ended("a", 2, 36, 41, history.Rejected),
		readBy("c", 50, 60, 0, 0, 0, slices.Clone(log[:1])), // of a node that lags
		ended("c", 0, 61, 70, history.Unknown),              // never happens
		tailBy("a", 71, 75, 3),
		appended("a", 3, 76, 80, 4),
		appended("b", 2, 81, 90, 5),
		appended("a", 4, 91, 95, 6),
		tailBy("b", 96, 99, 7),
	}, log
}

// TestGood: both checkers accept what can be.
func TestGood(t *testing.T) {
	ops, log := good()
	for _, f := range history.CheckLog(partition, log, ops, as) {
		t.Error(f)
	}
	ok, info := history.CheckLinearizable(partition, log, ops, 0)
	if !ok {
		t.Error("not linearizable")
	}
	if err := history.Visualize(info, filepath.Join(t.TempDir(), "good.html")); err != nil {
		t.Error(err)
	}
}

// TestFaults plants one fault of each sort into a good history. Each is found by the checker that is meant to find it, with the reason.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		plant  func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record)
		log    []string // kinds that CheckLog finds
		linear bool     // CheckLinearizable accepts it all the same
	}{
		"an acknowledged record is lost at the end": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			return ops, log[:6]
		}, []string{history.Lost}, false},
		"an acknowledged record is lost in the middle": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			return ops, logOf("a0", "b0", "b1", "a3", "b2", "a4")
		}, []string{history.Lost, history.Misplaced}, false},
		"an acknowledged record is overwritten by an unknown one": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			log[5].Value, log[5].Publisher = "c0", as("c")
			return ops, log
		}, []string{history.Lost}, false},
		"two appends are acknowledged at one offset": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			ops[12].Offset = 5
			return ops, log
		}, []string{history.Misplaced}, false},
		"a record is there twice": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			return ops, append(log, history.Record{Offset: 7, Value: "b1", Publisher: as("b")})
		}, []string{history.Doubled}, false},
		"a rejected record appears": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			return ops, append(log, history.Record{Offset: 7, Value: "a2", Publisher: as("a")})
		}, []string{history.Refused, history.Reordered}, false},
		"records of one client are reordered": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			ops[0].Number, ops[2].Number = 1, 0
			return ops, log
		}, []string{history.Reordered}, true},
		"an offset is skipped": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			log[6].Offset = 7
			return ops, log
		}, []string{history.Skipped}, false},
		"bytes are wrong": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			log[3].Value = "b1?"
			return ops, log
		}, []string{history.Wrong}, false},
		"a record is of another publisher": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			log[3].Publisher = as("a")
			return ops, log
		}, []string{history.Forged}, true},
		"a read shows what is not there later": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			ops[3].Records[1].Value = "c0"
			return ops, log
		}, []string{history.Diverged}, false},
		"a read shows more than the log has": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			return append(ops, readBy("c", 100, 110, 7, 0, 0, []history.Record{{Offset: 7, Value: "c0", Publisher: as("c")}})), log
		}, []string{history.Lost}, false},
		"a read skips a record": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			ops[3] = readBy("a", 21, 25, 1, 11, 3, log[2:3])
			return ops, log
		}, []string{history.Skipped}, false},
		"a read does not show its client's own write": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			ops[3] = readBy("a", 21, 25, 1, 11, 3, log[1:2])
			return ops, log
		}, nil, false},
		"a read as of now shows what was there before": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			ops[7].Since = ops[7].Call
			return ops, log
		}, nil, false},
		"a read shows a record before anybody wrote it": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			ops[3] = readBy("a", 21, 25, 1, 11, 3, log[1:5])
			return ops, log
		}, nil, false},
		"a tail is of before": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			ops[13].End = 6
			return ops, log
		}, nil, false},
		"a tail sees an unknown record that later ones do not": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			return slices.Insert(ops, 9, tailBy("b", 45, 47, 4)), log
		}, nil, false},
		"an append overtakes one that was acknowledged before it began": {func(ops []history.Op, log []history.Record) ([]history.Op, []history.Record) {
			ops[11].Value, ops[12].Value = ops[12].Value, ops[11].Value
			ops[11].Client, ops[12].Client = "a", "b"
			ops[11].Number, ops[12].Number = 4, 2
			ops[11].Offset, ops[12].Offset = 6, 5
			return ops, log
		}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			ops, log := c.plant(good())
			found := history.CheckLog(partition, log, ops, as)
			var kinds []string
			for _, f := range found {
				if !slices.Contains(kinds, f.Kind) {
					kinds = append(kinds, f.Kind)
				}
				if f.Partition != partition || f.Text == "" {
					t.Errorf("it does not say where and what: %v", f)
				}
			}
			for _, k := range c.log {
				if !slices.Contains(kinds, k) {
					t.Errorf("found %v, not %q", found, k)
				}
			}
			if len(c.log) == 0 && len(found) > 0 {
				t.Errorf("CheckLog should not see it: %v", found)
			}
			if ok, _ := history.CheckLinearizable(partition, log, ops, 0); ok != c.linear {
				t.Errorf("linearizable: %v", ok)
			}
		})
	}
}

// TestRandom: a log that does one operation after the other is accepted, whatever overlaps; with the end of one read or tail
// moved to a time before its client could have meant it, it is not.
func TestRandom(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		ops, log := simulate(random)
		if faults := history.CheckLog(partition, log, ops, as); len(faults) > 0 {
			t.Fatalf("seed %d: %v", seed, faults)
		}
		if ok, _ := history.CheckLinearizable(partition, log, ops, 0); !ok {
			t.Fatalf("seed %d: not linearizable", seed)
		}
		last := slices.IndexFunc(ops, func(o history.Op) bool { return o.Kind == history.Tail && o.End > 20 })
		ops[last].End -= 20 // more than overlap
		if ok, _ := history.CheckLinearizable(partition, log, ops, 0); ok {
			t.Fatalf("seed %d: a tail of before was accepted", seed)
		}
	}
}

// simulate plays eight clients on one log.
func simulate(random *rand.Rand) (ops []history.Op, log []history.Record) {
	var clients [8]struct {
		free    int64 // when its last operation returned
		appends int
		end     int64
		since   int64 // it ended there at some time since then
	}
	lengths := []int64{0} // of the log, by time
	for now := int64(100); now < 300_000; now += 500 {
		for int64(len(lengths)) < now/500 {
			lengths = append(lengths, int64(len(log)))
		}
		i := random.IntN(len(clients))
		c, name := &clients[i], string(rune('a'+i))
		call, ret := max(c.free+1, now-random.Int64N(1500)), now+random.Int64N(1500)
		if call > now {
			continue
		}
		c.free = ret
		switch random.IntN(8) {
		case 0:
			ops = append(ops, tailBy(name, call, ret, int64(len(log))))
		case 1:
			from := random.Int64N(int64(len(log) + 1))
			end := max(c.end, from, lengths[max(0, len(lengths)-1-random.IntN(10))])
			ops = append(ops, readBy(name, call, ret, from, c.since, c.end, slices.Clone(log[from:end])))
			c.end = end
		case 2:
			ops = append(ops, ended(name, c.appends, call, ret, history.Rejected))
			c.appends++
		default:
			o := appended(name, c.appends, call, ret, int64(len(log)))
			happens := true
			switch random.IntN(6) {
			case 0:
				o = ended(name, c.appends, call, call, history.Unknown) // told before it happens
			case 1:
				o, happens = ended(name, c.appends, call, ret, history.Unknown), false
			default:
				c.end, c.since = int64(len(log)+1), call
			}
			c.appends++
			ops = append(ops, o)
			if happens {
				log = append(log, history.Record{Offset: int64(len(log)), Value: o.Value, Publisher: as(name)})
			}
		}
	}
	return ops, log
}

// TestRecorder: times, numbers, what a client has seen, and outcomes are noted.
func TestRecorder(t *testing.T) {
	r := history.NewRecorder()
	first, second := r.Append("a", partition, "a0"), r.Append("a", partition, "a1")
	second(history.OK, 1, nil)
	read := r.Read("a", partition, 0)
	first(history.Unknown, 0, errors.New("lost"))
	read(logOf("a0", "a1", "b0"), nil)
	r.Read("a", partition, 2)(nil, errors.New("refused"))
	r.Read("b", partition, 2)(logOf("b0")[:0], nil)
	r.Tail("a", partition)(3, nil)
	r.ReadNow("b", partition, 2)(logOf("b0"), nil)
	r.Read("b", partition, 3)(nil, nil)
	ops := r.Ops()
	if len(ops) != 8 {
		t.Fatalf("%d operations", len(ops))
	}
	if o := ops[0]; o.Number != 0 || o.Outcome != history.Unknown || o.Error != "lost" || o.Return < ops[2].Call {
		t.Errorf("%+v", o)
	}
	if o := ops[1]; o.Number != 1 || o.Outcome != history.OK || o.Offset != 1 {
		t.Errorf("%+v", o)
	}
	if o := ops[2]; o.AtLeast != 2 || o.Since != ops[1].Call || o.End != 3 || len(o.Records) != 3 {
		t.Errorf("%+v", o)
	}
	if o := ops[3]; o.AtLeast != 3 || o.Since != ops[1].Call || o.Outcome != history.Rejected {
		t.Errorf("%+v", o)
	}
	if o := ops[4]; o.AtLeast != 0 || o.Since != 0 || o.End != 2 {
		t.Errorf("%+v", o)
	}
	if o := ops[5]; o.End != 3 || o.Outcome != history.OK {
		t.Errorf("%+v", o)
	}
	if o := ops[6]; o.Since != o.Call || o.AtLeast != 2 || o.End != 3 {
		t.Errorf("%+v", o)
	}
	if o := ops[7]; o.Since != ops[6].Call || o.AtLeast != 3 {
		t.Errorf("%+v", o)
	}
	if got := history.Count(ops); !strings.Contains(got, "append ok 1 append unknown 1 read ok 4 read rejected 1 tail ok 1") {
		t.Error(got)
	}
}
