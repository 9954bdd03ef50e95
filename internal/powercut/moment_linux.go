package powercut

import (
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// Moment is when the power is cut.
type Moment struct {
	Point  string       // fault point; "" = a random moment
	Action fault.Action // StopBefore or StopAfter, with Point
	Hit    int          // the hit of the point, from 1
	// FirstStart cuts the power in the first start of a broker, on an empty disk.
	FirstStart bool
}

func (m Moment) String() string {
	if m.Point == "" {
		return "random moment"
	}
	text := fmt.Sprintf("%s %s, hit %d", m.Action, m.Point, m.Hit)
	if m.FirstStart {
		text += ", first start"
	}
	return text
}

// arm is the moment as the child reads it.
func (m Moment) arm() string {
	if m.Point == "" {
		return ""
	}
	return fmt.Sprintf("%s=%s@%d", m.Point, m.Action, m.Hit)
}

// Cut is what one cut found.
type Cut struct {
	Moment  Moment
	Reached bool // the fault point; if not, the moment was random
	Adopted bool // the disk goes on from what the cut left; else from before the cut
	Acked   int64
	Found   int64
	Copy    time.Duration // of the image
	Took    time.Duration // the whole cut, with the recovery
}

func (c *Cut) String() string {
	text := fmt.Sprintf("%v: %d acknowledged, %d found, copy %.2fs, all %.2fs", c.Moment, c.Acked, c.Found, c.Copy.Seconds(), c.Took.Seconds())
	if !c.Reached && c.Moment.Point != "" {
		text += " (point not reached)"
	}
	if c.Adopted {
		text += ", goes on"
	}
	return text
}
