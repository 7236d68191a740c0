package session

import (
	"fmt"

	"tabtune/lora"
	"tabtune/lora/replay"
	"tabtune/zo/head"
)

// A run's state besides B: the average of the iterates, and what is done between
// steps. All of it is a function of the log, the model and the data, so that a run
// that goes on has it back.

// between does what is due after a step: the step's iterate enters the average, and
// the label head is fitted again to the states as they are now.
func (u *run) between() error {
	if u.avg != nil {
		if err := u.r.settle(); err != nil {
			return err
		}
		b, err := u.r.readB()
		if err != nil {
			return err
		}
		u.avg.Add(b)
	}
	if u.resampleDue() {
		if err := u.resample(); err != nil {
			return err
		}
	}
	if u.c.Refit > 0 && u.step%u.c.Refit == 0 && u.step >= u.skipTo {
		return u.refit()
	}
	return nil
}

// refit fits the label head again, with the penalty chosen at first, to the states
// that the adapter as it is now leads to, and goes on under it. Between refits the
// steps see a fixed head: the two are solved in turns, the convex part exactly.
func (u *run) refit() error {
	if err := u.r.settle(); err != nil {
		return err
	}
	b, err := u.r.readB()
	if err != nil {
		return err
	}
	top := u.r.spec.Top
	items := u.headRows(2*top + 1)
	x, err := u.features(items)
	if err != nil {
		return err
	}
	d := u.state(x, items, top)
	if err := d.Validate(); err != nil {
		return fmt.Errorf("after step %d: %w; use a lower learning rate", u.step, err)
	}
	if u.head, err = u.outputHead(head.Fit(d, u.headInfo.Lambda, false)); err != nil {
		return err
	}
	return u.rebuild(func(s *lora.Spec) { s.Head = u.head }, b)
}

// rebuild goes on with another program, and these matrices in it.
func (u *run) rebuild(change func(*lora.Spec), b [][]float32) (err error) {
	change(&u.c.spec)
	if u.r, err = u.s.programFor(u.c.spec); err != nil {
		return err
	}
	return u.r.writeB(b)
}

// lastRefit is the step after which the head in use at a step was fitted; 0: before
// the first.
func (u *run) lastRefit(step int) int {
	if u.c.Refit == 0 {
		return 0
	}
	return step - step%u.c.Refit
}

// averaged puts the average of the iterates in place of B while f runs. Where none
// is kept, or it is the last iterate itself, it does nothing.
func (u *run) averaged(f func() error) error {
	if u.avg == nil || u.avg.Count() < 2 {
		return nil
	}
	own, err := u.r.readB()
	if err != nil {
		return err
	}
	if err := u.r.writeB(u.avg.Value()); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return u.r.writeB(own)
}

// repeat does the recorded steps again, with what was due between them. Of several
// refits the last alone matters.
func (u *run) repeat(steps []replay.Record, progress func(done, total int64) error) error {
	u.skipTo = u.lastRefit(u.step + len(steps))
	for i, s := range steps {
		if err := u.r.repeat(s, u.opt); err != nil {
			return err
		}
		u.step++
		if err := u.between(); err != nil {
			return err
		}
		if err := progress(int64(i+1), int64(len(steps))); err != nil {
			return err
		}
	}
	return nil
}
