package engine

import (
	"io"

	flatbuffers "github.com/google/flatbuffers/go"
)

// etdumpVersion is what the schema's version field says in files of ExecuTorch 1.x.
const etdumpVersion = 0

// WriteETDump writes the steps as an ETDump (devtools/etdump/etdump_schema_flatcc.fbs, identifier ED00), the profile format of
// ExecuTorch, for its Inspector: one run with a profile event a step, times in nanoseconds since the first.
func (p *Profile) WriteETDump(w io.Writer) error {
	b := flatbuffers.NewBuilder(1 << 12)
	vector := func(offs []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
		b.StartVector(4, len(offs), 4)
		for i := len(offs) - 1; i >= 0; i-- {
			b.PrependUOffsetT(offs[i])
		}
		return b.EndVector(len(offs))
	}
	event := func(name string, instruction int, began, ended int64) flatbuffers.UOffsetT {
		label := b.CreateSharedString(name)
		b.StartObject(8) // ProfileEvent
		b.PrependUint64Slot(7, uint64(ended), 0)
		b.PrependUint64Slot(6, uint64(began), 0)
		b.PrependInt32Slot(2, int32(instruction), -1)
		b.PrependUOffsetTSlot(0, label, 0)
		profile := b.EndObject()
		b.StartObject(3) // Event
		b.PrependUOffsetTSlot(0, profile, 0)
		return b.EndObject()
	}
	events := make([]flatbuffers.UOffsetT, len(p.spans))
	for i, s := range p.spans {
		events[i] = event(s.op.op, s.index, s.began.Nanoseconds(), (s.began + s.took).Nanoseconds())
	}
	list, none, name := vector(events), vector(nil), b.CreateString("tabtune")
	b.StartObject(4) // RunData
	b.PrependUOffsetTSlot(3, list, 0)
	b.PrependUOffsetTSlot(2, none, 0)
	b.PrependUOffsetTSlot(0, name, 0)
	runs := vector([]flatbuffers.UOffsetT{b.EndObject()})
	b.StartObject(2) // ETDump
	b.PrependUOffsetTSlot(1, runs, 0)
	b.PrependUint32Slot(0, etdumpVersion, 0)
	// With its size in front, as ETDumpGen writes it.
	b.FinishSizePrefixedWithFileIdentifier(b.EndObject(), []byte("ED00"))
	_, err := w.Write(b.FinishedBytes())
	return err
}
