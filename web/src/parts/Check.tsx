/** One line of a menu that can be ticked. */
export function Check({ label, isOn, toggle }: { label: string; isOn: boolean; toggle: () => void }) {
  return (
    <label className="check">
      <input type="checkbox" checked={isOn} onChange={toggle} />
      {label}
    </label>
  );
}

/** `list` with `item` put in, or taken out if it is there. */
export function toggled<T>(list: readonly T[], item: T): T[] {
  return list.includes(item) ? list.filter((one) => one !== item) : [...list, item];
}
