package state

import (
	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Init names the cluster; it is the first command of a new one. Repeating it with the
// same id changes nothing, with another id it is a conflict.
type Init struct {
	ClusterID string
}

const initFields = 1

// AppendInit encodes c.
func AppendInit(dst []byte, c *Init) []byte {
	return codec.AppendStr(appendHead(dst, kindInit, initFields), c.ClusterID)
}

func decodeInit(body []byte) (Init, error) {
	f, err := openFields(body, kindInit, initFields)
	if err != nil {
		return Init{}, err
	}
	c := Init{ClusterID: f.text(clusterIDBytesMax)}
	return c, f.close()
}

func (m *Machine) onInit(c *Init, _ *Effects) Result {
	switch {
	case c.ClusterID == "":
		return Result{Status: StatusInvalid, Text: "the cluster id is empty"}
	case m.next.clusterID == "":
		m.next.clusterID = c.ClusterID
	case m.next.clusterID != c.ClusterID:
		return Result{Status: StatusConflict, Text: "this is cluster " + m.next.clusterID + " already"}
	}
	return Result{Status: StatusOK}
}
