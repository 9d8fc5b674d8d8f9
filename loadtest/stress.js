// Beyond what it is made for: slower is allowed, wrong is not.
import { visitor } from './lib/journeys.js';
import { during } from './lib/scenario.js';

export const options = during('stress');
export default visitor('stress');
export { handleSummary } from './lib/scenario.js';
