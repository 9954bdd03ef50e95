package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/storage"
)

// living leaves the batches out whose every record has outlived its time to live, by this node's clock. What is then
// delivered may be nothing, but the client still learns how far it was looked at.
func (s *subscription) living(buf []byte) (left []byte, records uint32, err error) {
	left, records, err = batch.DropExpired(buf, time.Now().UnixMilli())
	if err == nil {
		return left, records, nil
	}
	if !errors.Is(err, storage.ErrCorrupt) { // the faults of batch have no place in the caller's switch
		err = fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	return left, records, err
}
