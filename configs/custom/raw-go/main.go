// SPDX-License-Identifier: Apache-2.0

// exact-dedup is a sandbox hook that is no Python and knows no runtime: it reads the job contract, removes rows whose text
// was seen before, and writes a result. contract.go and report.go are what any such program needs; dedup.go is this one's work.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	syscall.Umask(0o002) // all pods share a group on the volume, not always a user
	contract, err := readContract()
	if err != nil {
		// Without a contract there is no job to report on: people read this, the operator reads the exit code.
		fmt.Fprintln(os.Stderr, err)
		os.WriteFile(terminationPath(), []byte(err.Error()), 0o644)
		return exitCodes["Config"]
	}
	attempt := newAttempt(contract)
	ctx, cancel := orderToEnd(contract)
	defer cancel(nil)

	// The work has a goroutine of its own, so that an order to end is obeyed even while a read of the volume hangs.
	type ending struct {
		done *Done
		err  error
	}
	ended := make(chan ending, 1)
	go func() {
		done, err := work(ctx, attempt)
		ended <- ending{done, err}
	}()
	select {
	case <-ctx.Done():
		return attempt.failed(context.Cause(ctx))
	case end := <-ended:
		if end.err != nil {
			return attempt.failed(end.err)
		}
		return attempt.succeeded(end.done)
	}
}

// orderToEnd is cancelled by SIGTERM and by the time limit, each with the failure that it is.
func orderToEnd(contract *Contract) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		cancel(&Failure{Class: "Preempted", Type: "SIGTERM", Message: "the pod was told to end"})
	}()
	if left := contract.ActiveSecondsLeft; left != nil {
		time.AfterFunc(time.Duration(*left)*time.Second, func() {
			message := fmt.Sprintf("it ran longer than the %d s that it had left", *left)
			cancel(&Failure{Class: "Timeout", Type: "ActiveTimeout", Message: message})
		})
	}
	return ctx, cancel
}

func work(ctx context.Context, attempt *Attempt) (*Done, error) {
	if err := attempt.enter(); err != nil {
		return nil, err
	}
	settings, err := attempt.settings()
	if err != nil {
		return nil, err
	}
	return dedup(ctx, attempt, settings)
}
