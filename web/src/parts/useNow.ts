import { useEffect, useState } from "react";

/** The clock, ticking every `period` milliseconds; 0 stops it. */
export function useNow(period: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!period) return;
    const timer = setInterval(() => setNow(Date.now()), period);
    return () => clearInterval(timer);
  }, [period]);
  return now;
}
