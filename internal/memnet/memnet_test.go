package memnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/internal/memnet"
)

// dialed returns both ends of a connection through a Network.
func dialed(t *testing.T) (client, server net.Conn) {
	t.Helper()
	var n memnet.Network
	l, err := n.Listen("broker:1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	client, err = n.DialContext(context.Background(), "tcp", "broker:1")
	if err != nil {
		t.Fatal(err)
	}
	return client, <-accepted
}

func TestBytesArriveInOrderBeyondTheBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := dialed(t)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go func() {
			client.Write(sent)
			client.Close()
		}()
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("read %d bytes, err %v, want %d", len(got), err, len(sent))
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := dialed(t)
		start := time.Now()
		server.SetReadDeadline(start.Add(5 * time.Second))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read: %v", err)
		}
		client.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if _, err := client.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("write to a peer that does not read: %v", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Fatalf("deadlines took %v of virtual time, want 10s", took)
		}
		server.SetReadDeadline(time.Time{})
		if _, err := server.Read(make([]byte, 1)); err != nil {
			t.Fatalf("read after the deadline was lifted: %v", err)
		}
	})
}

func TestDeadlineMovedDuringRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, server := dialed(t)
		done := make(chan error, 1)
		go func() {
			_, err := server.Read(make([]byte, 1))
			done <- err
		}()
		synctest.Wait()
		server.SetReadDeadline(time.Now())
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

func TestClose(t *testing.T) {
	client, server := dialed(t)
	client.Write([]byte("last words"))
	client.Close()
	got, err := io.ReadAll(server)
	if err != nil || string(got) != "last words" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := server.Write([]byte("x")); err == nil {
		t.Fatal("write to a closed peer succeeded")
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("read after own close: %v", err)
	}
}

func TestListenerClosed(t *testing.T) {
	var n memnet.Network
	l, err := n.Listen("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen("a"); err == nil {
		t.Fatal("one address, two listeners")
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := n.DialContext(context.Background(), "tcp", "a"); err == nil {
		t.Fatal("dialed a closed listener")
	}
	if _, err = n.Listen("a"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := n.DialContext(ctx, "tcp", "a"); !errors.Is(err, context.Canceled) {
		t.Fatalf("dial nobody accepts: %v", err)
	}
}

// TestHold: what is sent a way that is held arrives after Release, and not before; the other way stays open; the end of a connection
// is held, too; a dial waits for both ways.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n memnet.Network
		l, err := n.Listen("b:1")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		accepted := make(chan net.Conn, 1)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
		dial := n.From("a")
		a, err := dial(t.Context(), "tcp", "b:1")
		if err != nil {
			t.Fatal(err)
		}
		b := <-accepted
		n.Hold("a", "b")
		a.Write([]byte("late"))
		b.Write([]byte("soon"))
		buf := make([]byte, 8)
		if k, err := a.Read(buf); err != nil || string(buf[:k]) != "soon" {
			t.Errorf("the open way: %q, %v", buf[:k], err)
		}
		b.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := b.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the held way: %v", err)
		}
		waiting, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := dial(waiting, "tcp", "b:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial: %v", err)
		}
		n.Release("a", "b")
		b.SetReadDeadline(time.Time{})
		if k, err := b.Read(buf); err != nil || string(buf[:k]) != "late" {
			t.Errorf("released: %q, %v", buf[:k], err)
		}
		n.Hold("b", "a")
		b.Close()
		if _, err := a.Write([]byte("x")); err != nil {
			t.Errorf("write to an end that is closed and cannot say so: %v", err)
		}
		n.Release("b", "a")
		if _, err := a.Write([]byte("x")); err == nil {
			t.Error("write to an end that is closed")
		}
		if _, err := a.Read(buf); err != io.EOF {
			t.Errorf("read of an end that is closed: %v", err)
		}
		a.Close()
		n.Hold("a", "b")
		dialed := make(chan error, 1)
		go func() {
			c, err := dial(t.Context(), "tcp", "b:1")
			if err == nil {
				c.Close()
			}
			dialed <- err
		}()
		synctest.Wait()
		n.Release("a", "b")
		if err := <-dialed; err != nil {
			t.Errorf("a dial that waited: %v", err)
		}
		(<-accepted).Close()
	})
}
