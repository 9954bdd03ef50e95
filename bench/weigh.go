package bench

import (
	"cmp"
	"context"
	"syscall"
	"time"
)

// Connections that are opened if nothing is said: so many, or as many as files may be open for them, at both ends and with some to spare.
const (
	idleMax     = 2000
	idleMin     = 10
	filesSpared = 256
)

// idleDefault is how many.
func idleDefault() int {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil || files.Cur < filesSpared+2*idleMin {
		return idleMin
	}
	return int(min((files.Cur-filesSpared)/2, idleMax))
}

// settle is how long brokers that cannot be told to collect their garbage have to come to rest before their memory is read.
const settle = 2 * time.Second

// weight is the memory of all nodes together, in bytes.
type weight struct {
	inUse   float64 // live objects and stacks; 0 = not known
	private float64 // that of the processes, without mapped files where that is known
}

// weigh reads the memory of all nodes once they have come to rest.
func (d *idle) weigh(ctx, interrupted context.Context) (w weight, err error) {
	settled := false
	for _, n := range d.target.Nodes {
		switch {
		case n.Rest != nil:
			inUse, err := n.Rest(ctx)
			if err != nil {
				return w, err
			}
			w.inUse += float64(inUse)
		case !settled:
			settled = true
			select {
			case <-time.After(settle):
			case <-interrupted.Done():
			}
		}
		u, err := n.Usage(ctx)
		if err != nil {
			return w, err
		}
		w.private += float64(cmp.Or(u.Private, u.Resident)) // sealed segments are mapped, and have nothing to do with connections
	}
	return w, nil
}

// weightFigures are what a connection weighs: the slope of memory over connections.
func weightFigures(conns []float64, weights []weight) (list []Figure) {
	var inUse, private []float64
	for _, w := range weights {
		inUse, private = append(inUse, w.inUse), append(private, w.private)
	}
	last := len(weights) - 1
	list = []Figure{{"server memory before", "MiB", private[0] / (1 << 20)}, {"server memory after", "MiB", private[last] / (1 << 20)},
		{"server memory of a connection", "KiB", slope(conns, private) / 1024}}
	if inUse[last] > 0 {
		list = append(list, Figure{"server heap and stacks of a connection", "KiB", slope(conns, inUse) / 1024})
	}
	return list
}

// slope is that of the straight line that is nearest to points, by least squares; 0 where all have one x.
func slope(x, y []float64) float64 {
	var meanX, meanY, above, below float64
	for i := range x {
		meanX, meanY = meanX+x[i]/float64(len(x)), meanY+y[i]/float64(len(y))
	}
	for i := range x {
		above += (x[i] - meanX) * (y[i] - meanY)
		below += (x[i] - meanX) * (x[i] - meanX)
	}
	if below == 0 {
		return 0
	}
	return above / below
}
